// Package contrib runs the conformance cases of dapr/components-contrib against our components: each is served by
// `outrigger component serve` over a Unix socket and reached by the client that dapr/dapr has for pluggable
// components; blocks that this protocol does not have are reached by the API of our sidecar. `cargo xtask contrib` builds the program, sets the variables and prints the counts.
package contrib

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programVariable names the program to test.
const programVariable = "OUTRIGGER_PROGRAM"

// serve starts our component behind a socket, whose path is given back. The component ends with the test.
func serve(t *testing.T, kind, version string, environment ...string) string {
	t.Helper()
	// A socket's path has little room, less than t.TempDir takes with these names.
	folder, err := os.MkdirTemp("", "otg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket := filepath.Join(folder, "c.sock")
	arguments := []string{"component", "serve", kind, "--socket", socket}
	if version != "" {
		arguments = append(arguments, "--type-version", version)
	}
	launch(t, folder, environment, "unix", socket, arguments...)
	return socket
}

// launch starts our program and waits until its address takes connections. It ends with the test; what it said is shown
// when the test failed.
func launch(t *testing.T, folder string, environment []string, network, address string, arguments ...string) {
	t.Helper()
	program := os.Getenv(programVariable)
	if program == "" {
		t.Skipf("skipped: %s does not name the program to test; `cargo xtask contrib` sets it", programVariable)
	}
	log := &lockedBuffer{}
	command := exec.Command(program, arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), environment...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(15 * time.Second):
			_ = command.Process.Kill()
			<-exited
			t.Error("the program did not end within 15s of SIGTERM")
		}
		if t.Failed() {
			t.Logf("the program said:\n%s", log)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if connection, err := net.Dial(network, address); err == nil {
			_ = connection.Close()
			return
		}
		select {
		case <-exited:
			t.Fatalf("the program ended before it served:\n%s", log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not serve:\n%s", log)
		}
	}
}

// lockedBuffer takes the output of a process while a test reads it.
type lockedBuffer struct {
	lock   sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.buffer.Write(data)
}

func (b *lockedBuffer) String() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.buffer.String()
}

// required gives the value of a variable that names a real server; the test is skipped without it.
func required(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Skipf("skipped: %s names no server", variable)
	}
	return strings.TrimSpace(value)
}
