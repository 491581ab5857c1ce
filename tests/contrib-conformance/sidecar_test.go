package contrib

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

// componentName is what the sidecar of a test calls its only component.
const componentName = "conformance"

// configurationFile switches on the operations on single keys, which Dapr has only in builds of their own.
const configurationFile = `apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: conformance
spec:
  features:
    - name: _SubtleCrypto
      enabled: true
`

// sidecar is our sidecar with one component: the blocks that the pluggable protocol does not have (locks,
// configuration, cryptography) are reached by its API. It starts when the cases initialise the component, with their
// settings.
type sidecar struct {
	t       *testing.T
	kind    string
	version string
	client  runtimev1.DaprClient
}

// start gives the sidecar the component with these settings and waits until it answers.
func (s *sidecar) start(ctx context.Context, settings properties) error {
	s.t.Helper()
	folder := s.t.TempDir()
	resources := filepath.Join(folder, "resources")
	require.NoError(s.t, os.Mkdir(resources, 0o700))
	require.NoError(s.t, os.WriteFile(filepath.Join(resources, "component.yaml"), s.file(settings), 0o600))
	configuration := filepath.Join(folder, "configuration.yaml")
	require.NoError(s.t, os.WriteFile(configuration, []byte(configurationFile), 0o600))
	grpcPort, httpPort, internalPort := freePort(), freePort(), freePort()
	launch(s.t, folder, nil, "tcp", "127.0.0.1:"+grpcPort,
		"daprd",
		"--app-id", "contrib-conformance",
		"--resources-path", resources,
		"--config", configuration,
		"--dapr-grpc-port", grpcPort,
		"--dapr-http-port", httpPort,
		"--dapr-internal-grpc-port", internalPort,
		"--dapr-listen-addresses", "127.0.0.1",
		"--enable-metrics=false",
	)
	connection, err := grpc.NewClient("127.0.0.1:"+grpcPort, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { _ = connection.Close() })
	s.client = runtimev1.NewDaprClient(connection)
	// The port is open before the components are.
	for {
		answer, err := s.client.GetMetadata(ctx, &runtimev1.GetMetadataRequest{})
		if err == nil && len(answer.GetRegisteredComponents()) == 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// file is the component's; JSON is YAML.
func (s *sidecar) file(settings properties) []byte {
	type pair struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	pairs := []pair{}
	for name, value := range settings {
		pairs = append(pairs, pair{name, value})
	}
	file, err := json.Marshal(map[string]any{
		"apiVersion": "dapr.io/v1alpha1",
		"kind":       "Component",
		"metadata":   map[string]string{"name": componentName},
		"spec":       map[string]any{"type": s.kind, "version": s.version, "metadata": pairs},
	})
	require.NoError(s.t, err)
	return file
}

// freePort is a port of the loopback interface that nobody listens on.
func freePort() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}
