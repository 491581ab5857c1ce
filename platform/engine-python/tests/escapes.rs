//! The escape corpus (F4, H6.1, H6.2): what strangers' code tries, each attempt a test. Most run without the second
//! wall, so that it is the operating system that refuses; after each one the same worker must do its work.

#![expect(clippy::print_stdout, reason = "figures")]

mod support;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use outrigger_platform_engine::{Engine, EngineError, EngineFactory as _, WorkerContext};
use outrigger_platform_engine_python::{PythonEngine, PythonSettings};
use outrigger_platform_sandbox::Identity;
use serde_json::{Value, json};
use support::{DOUBLE, ask, assert_serves, bare, confines, load_with, settings};

/// Attempts that never end cost a test as much.
const TIMEOUT: Duration = Duration::from_millis(1500);

static BARE: LazyLock<PythonEngine> = LazyLock::new(|| engine(bare()));
static HASTY: LazyLock<PythonEngine> = LazyLock::new(|| {
    engine(PythonSettings {
        timeout: TIMEOUT,
        ..bare()
    })
});
static WALLED: LazyLock<PythonEngine> = LazyLock::new(|| engine(settings()));
/// As the tests' own user even if that is root: without capabilities, and behind the same walls.
static SAME_USER: LazyLock<PythonEngine> = LazyLock::new(|| {
    engine(PythonSettings {
        identity: Some(Identity::Keep),
        ..bare()
    })
});
/// A file that everybody may read and write, had they no walls.
static TREASURE: LazyLock<tempfile::NamedTempFile> = LazyLock::new(|| {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "treasure").unwrap();
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    file
});

/// Without the second wall: as another user where there is one, and as this one.
fn engines() -> Vec<&'static PythonEngine> {
    let this_user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    if this_user == 0 {
        vec![&BARE, &SAME_USER]
    } else {
        vec![&BARE]
    }
}

fn engine(settings: PythonSettings) -> PythonEngine {
    PythonEngine::new(PythonSettings {
        first_pause: Duration::from_millis(1),
        ..settings
    })
}

/// Answers what an attempt came to: the error's name, or what it got.
const RUN: &str = "
def Process(event):
    if event['data'] == 'innocent':
        return {'type': 'a', 'data': 'innocent'}
    try:
        got = attempt()
    except BaseException as error:
        import errno
        return {'type': 'a', 'data': errno.errorcode.get(getattr(error, 'errno', None)) or type(error).__name__}
    return {'type': 'a', 'data': 'ESCAPED: %r' % (got,)}
";

/// The same behind the second wall, where `errno` cannot be imported; the message is part of the answer.
const RUN_WALLED: &str = "
def Process(event):
    if event['data'] == 'innocent':
        return {'type': 'a', 'data': 'innocent'}
    try:
        got = attempt()
    except BaseException as error:
        return {'type': 'a', 'data': type(error).__name__ + ': ' + str(error)}
    return {'type': 'a', 'data': 'ESCAPED: %r' % (got,)}
";

/// Raw system calls by this machine's numbers, the host's process id, the treasure's path.
fn prelude() -> String {
    let numbers = json!({
        "ptrace": libc::SYS_ptrace, "process_vm_readv": libc::SYS_process_vm_readv,
        "process_vm_writev": libc::SYS_process_vm_writev, "mount": libc::SYS_mount, "unshare": libc::SYS_unshare,
        "setns": libc::SYS_setns, "io_uring_setup": libc::SYS_io_uring_setup, "keyctl": libc::SYS_keyctl,
        "add_key": libc::SYS_add_key, "bpf": libc::SYS_bpf, "perf_event_open": libc::SYS_perf_event_open,
        "userfaultfd": libc::SYS_userfaultfd, "memfd_create": libc::SYS_memfd_create, "clone": libc::SYS_clone,
        "clone3": libc::SYS_clone3, "execveat": libc::SYS_execveat, "pidfd_open": libc::SYS_pidfd_open,
        "pidfd_getfd": libc::SYS_pidfd_getfd, "tgkill": libc::SYS_tgkill, "tkill": libc::SYS_tkill,
        "rt_sigqueueinfo": libc::SYS_rt_sigqueueinfo, "open_by_handle_at": libc::SYS_open_by_handle_at,
        "init_module": libc::SYS_init_module, "reboot": libc::SYS_reboot, "capset": libc::SYS_capset,
        "prctl": libc::SYS_prctl, "getpid": libc::SYS_getpid, "socket": libc::SYS_socket,
        "sendmsg": libc::SYS_sendmsg, "pivot_root": libc::SYS_pivot_root, "shmget": libc::SYS_shmget,
        "seccomp": libc::SYS_seccomp, "landlock": libc::SYS_landlock_create_ruleset, "kexec": libc::SYS_kexec_load,
    });
    format!(
        "import errno, os\nMANAGER = {manager}\nTREASURE = {treasure:?}\nSYS = {numbers}\n\
         def call(name, *args):\n\
         \x20   import ctypes\n\
         \x20   libc = ctypes.CDLL(None, use_errno=True)\n\
         \x20   number = name if isinstance(name, int) else SYS[name]\n\
         \x20   got = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])\n\
         \x20   if got == -1:\n\
         \x20       raise OSError(ctypes.get_errno(), name)\n\
         \x20   return got\n",
        manager = std::process::id(),
        treasure = TREASURE.path().display().to_string(),
    )
}

/// `def attempt()` with this body.
fn attempt(body: &str) -> String {
    let mut code = String::from("def attempt():\n");
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        code.push_str("    ");
        // Bodies are indented by what stands around them here.
        code.push_str(line.strip_prefix("        ").unwrap_or(line.trim_start()));
        code.push('\n');
    }
    code
}

async fn load(engine: &PythonEngine, code: String) -> Result<Arc<dyn Engine>, EngineError> {
    let context = WorkerContext {
        id: "worker".to_owned(),
        group: None,
        topic: "ticks".to_owned(),
    };
    engine.load(context, Bytes::from(code)).await
}

/// Runs an attempt without the second wall.
async fn tried(engine: &PythonEngine, body: &str) -> (Arc<dyn Engine>, Result<Value, EngineError>) {
    let code = format!("{}{}{RUN}", prelude(), attempt(body));
    let engine = load(engine, code).await.unwrap();
    let got = ask(&engine, json!("attempt")).await;
    (engine, got)
}

/// Each row is a test: a name, how the attempt ends (an error's name, or one of several), the attempt in Python. It
/// runs as `nobody` where the tests are root, and again as the tests' own user.
macro_rules! refused {
    ($($name:ident, $($expected:literal)|+, $body:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            if !confines() {
                return;
            }
            for engine in engines() {
                let (worker, got) = tried(engine, $body).await;
                let got = got.unwrap();
                assert!([$(json!($expected)),+].contains(&got), "{got}");
                assert_serves(&worker).await;
            }
        }
    )+};
}

/// Each row is a test: the attempt costs the process; the error's text holds some words; the next event is served.
macro_rules! ends_the_process {
    ($($name:ident, $kind:literal, $words:literal, $body:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            if !confines() {
                return;
            }
            // Only those that never end need a short time.
            let engine = if $kind == "timeout" { &*HASTY } else { &*BARE };
            let (worker, got) = tried(engine, $body).await;
            let error = got.unwrap_err();
            assert_eq!(error.kind(), $kind, "{error}");
            assert!(error.to_string().contains($words), "{error}");
            assert_serves(&worker).await;
        }
    )+};
}

/// Each row is a test behind the second wall: the attempt's error, by what its text holds.
macro_rules! walled {
    ($($name:ident, $words:literal, $body:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            if !confines() {
                return;
            }
            let worker = load(&WALLED, format!("{}{RUN_WALLED}", attempt($body))).await.unwrap();
            let got = ask(&worker, json!("attempt")).await.unwrap();
            let got = got.as_str().unwrap();
            assert!(!got.starts_with("ESCAPED") && got.contains($words), "{got}");
            assert_serves(&worker).await;
        }
    )+};
}

/// Each row is a test behind the second wall: such code is not even loaded.
macro_rules! not_loaded {
    ($($name:ident, $words:literal, $code:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            if !confines() {
                return;
            }
            let error = load(&WALLED, $code.to_owned()).await.unwrap_err();
            assert_eq!(error.kind(), "load", "{error}");
            assert!(error.to_string().contains($words), "{error}");
        }
    )+};
}

// Files.
refused! {
    reading_etc_passwd_is_refused, "EACCES", "return open('/etc/passwd').read()";
    reading_the_hosts_environment_is_refused, "EACCES", "return open('/proc/%d/environ' % MANAGER).read()";
    reading_the_first_process_is_refused, "EACCES", "return open('/proc/1/environ').read()";
    reading_the_hosts_memory_is_refused, "EACCES", "return open('/proc/%d/mem' % MANAGER, 'rb').read(1)";
    reading_through_proc_self_root_is_refused, "EACCES", "return open('/proc/self/root' + '/etc/passwd').read()";
    reading_through_proc_self_cwd_is_refused, "EACCES", "return open('/proc/self/cwd/etc/passwd').read()";
    reading_upwards_out_of_the_library_is_refused, "EACCES",
        "return open(os.path.dirname(os.__file__) + '/..' * 9 + '/etc/passwd').read()";
    reading_what_everybody_may_read_is_refused, "EACCES", "return open(TREASURE).read()";
    listing_the_root_is_refused, "EACCES", "return os.listdir('/')";
    listing_homes_is_refused, "EACCES", "return os.listdir('/home')";
    listing_descriptors_is_refused, "EACCES", "return os.listdir('/proc/self/fd')";
    following_the_hosts_links_is_refused, "EACCES", "return os.readlink('/proc/%d/exe' % MANAGER)";
    reading_a_disk_is_refused, "EACCES" | "ENOENT", "return open('/dev/mem', 'rb').read(1)";
    writing_what_everybody_may_write_is_refused, "EACCES", "return open(TREASURE, 'w').write('mine')";
    appending_is_refused, "EACCES", "return open(TREASURE, 'a').write('mine')";
    making_a_file_is_refused, "EACCES", "return open('/tmp/made-by-a-worker', 'x')";
    making_a_file_in_shared_memory_is_refused, "EACCES" | "ENOENT", "return open('/dev/shm/made-by-a-worker', 'x')";
    truncating_is_refused, "EPERM", "return os.truncate(TREASURE, 0)";
    removing_is_refused, "EPERM", "return os.unlink(TREASURE)";
    renaming_is_refused, "EPERM", "return os.rename(TREASURE, TREASURE + '.mine')";
    making_a_folder_is_refused, "EPERM", "return os.mkdir('/tmp/made-by-a-worker')";
    a_symbolic_link_is_refused, "EPERM", "return os.symlink('/etc/passwd', '/tmp/made-by-a-worker')";
    a_hard_link_is_refused, "EPERM", "return os.link('/etc/passwd', '/tmp/made-by-a-worker')";
    changing_a_mode_is_refused, "EPERM", "return os.chmod(TREASURE, 0o777)";
    changing_an_owner_is_refused, "EPERM", "return os.chown(TREASURE, 0, 0)";
    changing_a_time_is_refused, "EPERM", "return os.utime(TREASURE, (0, 0))";
    a_named_pipe_is_refused, "EPERM", "return os.mkfifo('/tmp/made-by-a-worker')";
    a_device_is_refused, "EPERM", "return os.mknod('/tmp/made-by-a-worker', 0o020666, os.makedev(1, 1))";
    opening_by_handle_is_refused, "EPERM", "return call('open_by_handle_at', -100, 0, 0)";
    spoiling_the_library_is_refused, "EACCES", "return open(os.__file__, 'r+')";
}

// The network.
refused! {
    a_tcp_socket_is_refused, "EPERM", "import socket; return socket.create_connection(('127.0.0.1', 22))";
    a_udp_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)";
    a_tcp6_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_INET6)";
    a_unix_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_UNIX).connect('/run/x.sock')";
    an_abstract_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_UNIX).connect('\\0x')";
    a_raw_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)";
    a_netlink_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)";
    a_packet_socket_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)";
    a_vsock_is_refused, "EPERM", "import socket; return socket.socket(socket.AF_VSOCK)";
    a_pair_of_sockets_is_refused, "EPERM", "import socket; return socket.socketpair()";
    looking_up_a_name_is_refused, "gaierror", "import socket; return socket.getaddrinfo('example.com', 80)";
    listening_is_refused, "EPERM", "import socket; return socket.create_server(('127.0.0.1', 0))";
    a_socket_by_raw_call_is_refused, "EPERM", "return call('socket', 2, 1, 0)";
    passing_descriptors_to_the_host_is_refused, "EPERM", "return call('sendmsg', 0, 0, 0)";
    making_a_socket_of_the_control_descriptor_is_refused, "EPERM",
        "import socket; return socket.socket(fileno=os.dup(0)).getpeername()";
}

// Other programs and processes.
refused! {
    subprocess_is_refused, "EPERM", "import subprocess; return subprocess.run(['/bin/true'])";
    os_system_is_refused, "refused", "
        class refused(Exception): pass
        got = os.system('/bin/true')
        if got != 0: raise refused()";
    os_popen_is_refused, "EPERM", "return os.popen('/bin/true').read()";
    posix_spawn_is_refused, "EPERM", "return os.posix_spawn('/bin/true', ['true'], {})";
    forking_is_refused, "EPERM", "return os.fork()";
    a_fork_bomb_is_refused, "refused", "
        class refused(Exception): pass
        for _ in range(10000):
            try:
                if os.fork() >= 0: return 'forked'
            except PermissionError: pass
        raise refused()";
    forking_by_raw_call_is_refused, "EPERM", "return call('clone', 17, 0, 0, 0, 0)";
    a_process_in_new_namespaces_is_refused, "EPERM", "return call('clone', 0x10000000 | 17, 0, 0, 0, 0)";
    a_thread_in_a_new_namespace_is_refused, "EPERM", "return call('clone', 0x00010f00 | 0x10000000, 0, 0, 0, 0)";
    clone3_does_not_exist, "ENOSYS", "return call('clone3', 0, 0)";
    multiprocessing_is_refused, "EPERM" | "EACCES", "
        import multiprocessing
        process = multiprocessing.Process(target=print)
        process.start()
        return 'started'";
    a_program_in_memory_is_refused, "EPERM", "return call('memfd_create', b'x', 0)";
    tracing_the_host_is_refused, "EPERM", "return call('ptrace', 16, MANAGER, 0, 0)";
    tracing_itself_is_refused, "EPERM", "return call('ptrace', 0, 0, 0, 0)";
    reading_the_hosts_memory_by_call_is_refused, "EPERM", "return call('process_vm_readv', MANAGER, 0, 0, 0, 0, 0)";
    writing_the_hosts_memory_by_call_is_refused, "EPERM", "return call('process_vm_writev', MANAGER, 0, 0, 0, 0, 0)";
    killing_the_host_is_refused, "EPERM", "return os.kill(MANAGER, 9)";
    asking_whether_the_host_lives_is_refused, "EPERM", "return os.kill(MANAGER, 0)";
    killing_everybody_is_refused, "EPERM", "return os.kill(-1, 9)";
    killing_the_group_is_refused, "EPERM", "return os.killpg(0, 9)";
    killing_the_first_process_is_refused, "EPERM", "return os.kill(1, 15)";
    a_signal_to_a_thread_of_the_host_is_refused, "EPERM", "return call('tgkill', MANAGER, MANAGER, 9)";
    a_signal_by_tkill_is_refused, "EPERM", "return call('tkill', MANAGER, 9)";
    a_queued_signal_to_the_host_is_refused, "EPERM", "return call('rt_sigqueueinfo', MANAGER, 9, 0)";
    a_handle_on_the_host_is_refused, "EPERM", "return call('pidfd_open', MANAGER, 0)";
    taking_the_hosts_descriptors_is_refused, "EPERM", "return call('pidfd_getfd', 0, 0, 0)";
    a_descriptors_signal_to_the_host_is_refused, "EPERM",
        "import fcntl; return fcntl.fcntl(0, fcntl.F_SETOWN, MANAGER)";
    outliving_the_host_is_refused, "EPERM", "return call('prctl', 1, 0, 0, 0, 0)";
    leaving_the_session_is_refused, "EPERM", "return os.setsid()";
}

// The kernel.
refused! {
    mounting_is_refused, "EPERM", "return call('mount', b'none', b'/tmp', b'tmpfs', 0, 0)";
    another_root_is_refused, "EPERM", "return os.chroot('/tmp')";
    pivoting_the_root_is_refused, "EPERM", "return call('pivot_root', b'/', b'/')";
    unsharing_is_refused, "EPERM", "return call('unshare', 0x10000000)";
    entering_a_namespace_is_refused, "EPERM", "return call('setns', 0, 0)";
    io_uring_is_refused, "EPERM", "return call('io_uring_setup', 1, 0)";
    the_keyring_is_refused, "EPERM", "return call('keyctl', 0, -3, 0)";
    adding_a_key_is_refused, "EPERM", "return call('add_key', b'user', b'x', b'x', 1, -3)";
    bpf_is_refused, "EPERM", "return call('bpf', 0, 0, 0)";
    perf_is_refused, "EPERM", "return call('perf_event_open', 0, 0, -1, -1, 0)";
    userfaultfd_is_refused, "EPERM", "return call('userfaultfd', 0)";
    shared_memory_is_refused, "EPERM", "return call('shmget', 0, 4096, 0o1666)";
    loading_a_module_is_refused, "EPERM", "return call('init_module', 0, 0, 0)";
    rebooting_is_refused, "EPERM", "return call('reboot', 0, 0, 0, 0)";
    another_kernel_is_refused, "EPERM", "return call('kexec', 0, 0, 0, 0)";
    becoming_root_is_refused, "EPERM", "return os.setuid(0)";
    gaining_capabilities_is_refused, "EPERM", "return call('capset', 0, 0)";
    a_filter_over_the_filter_is_refused, "EPERM", "return call('seccomp', 1, 0, 0)";
    raising_a_limit_is_refused, "ValueError",
        "import resource; return resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)";
    raising_the_hosts_priority_is_refused, "EPERM", "return os.setpriority(os.PRIO_PROCESS, MANAGER, 0)";
    raising_its_own_priority_is_refused, "EPERM", "return os.setpriority(os.PRIO_PROCESS, 0, -20)";
    typing_into_a_terminal_is_refused, "EPERM", "import fcntl; return fcntl.ioctl(0, 0x5412, b'x')";
    memory_that_is_written_and_run_is_refused, "EPERM",
        "import mmap; return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)";
}

#[cfg(target_arch = "x86_64")]
refused! {
    calls_of_the_other_numbering_are_refused, "EPERM", "return call(0x40000000 + SYS['getpid'])";
}

// Too much of everything.
refused! {
    a_memory_bomb_is_refused, "MemoryError", "
        hoard = []
        while True: hoard.append(bytearray(16 << 20))";
    one_huge_object_is_refused, "MemoryError", "return len(bytearray(8 << 30))";
    descriptors_run_out, "EMFILE", "
        hoard = []
        while True: hoard.append(os.dup(0))";
    endless_recursion_is_refused, "RecursionError", "
        def deeper(): return deeper()
        return deeper()";
    standard_output_goes_nowhere, "done", "
        class done(Exception): pass
        for _ in range(2000): os.write(1, b'x' * 65536)
        raise done()";
}

ends_the_process! {
    a_processor_loop_is_ended, "timeout", "1.5s", "
        while True: pass";
    never_answering_is_ended, "timeout", "1.5s", "import time; time.sleep(1e6)";
    ignoring_signals_does_not_help, "timeout", "1.5s", "
        import signal, time
        try: signal.signal(signal.SIGTERM, signal.SIG_IGN)
        except ValueError: pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True: time.sleep(1)";
    becoming_another_program_is_fatal, "crashed", "forbidden system call", "os.execv('/bin/sh', ['sh', '-c', 'true'])";
    becoming_the_interpreter_anew_is_fatal, "crashed", "forbidden system call", "
        import sys
        os.execv(sys.executable, ['python3', '-c', 'pass'])";
    becoming_a_descriptors_program_is_fatal, "crashed", "forbidden system call",
        "call('execveat', 0, b'', 0, 0, 0x1000)";
    exiting_in_the_middle_is_seen, "crashed", "exit code 0", "os._exit(0)";
    a_memory_fault_is_seen, "crashed", "SIGSEGV", "import ctypes; ctypes.string_at(1)";
    aborting_is_seen, "crashed", "SIGABRT", "os.abort()";
    killing_itself_is_seen, "crashed", "SIGKILL", "os.kill(os.getpid(), 9)";
    closing_the_control_socket_is_ended, "timeout", "1.5s", "
        import time
        os.close(0)
        os.close(2)
        time.sleep(1e6)";
    a_forged_frame_of_4_gib_is_refused, "crashed", "too large", "
        import time
        os.write(0, b'\\xff\\xff\\xff\\xff')
        time.sleep(1e6)";
    forged_nonsense_is_refused, "crashed", "no frame", "
        import time
        os.write(0, b'\\0\\0\\0\\4blah')
        time.sleep(1e6)";
    a_forged_answer_to_another_event_is_refused, "crashed", "does not have", "
        import json, time
        body = json.dumps({'type': 'result', 'id': '999'}).encode()
        os.write(0, len(body).to_bytes(4, 'big') + body)
        time.sleep(1e6)";
    a_second_ready_is_refused, "crashed", "out of turn", "
        import time
        os.write(0, b'\\0\\0\\0\\x10{\"type\":\"ready\"}')
        time.sleep(1e6)";
    an_unasked_pong_is_refused, "crashed", "out of turn", "
        import time
        os.write(0, b'\\0\\0\\0\\x0f{\"type\":\"pong\"}')
        time.sleep(1e6)";
    half_a_frame_is_ended, "timeout", "1.5s", "
        import time
        os.write(0, b'\\0\\0\\1\\0half')
        time.sleep(1e6)";
    flooding_standard_error_stalls_only_itself, "timeout", "1.5s", "
        while True: os.write(2, b'x' * 4095 + b'\\n')";
}

#[tokio::test]
async fn a_huge_answer_is_refused() {
    if !confines() {
        return;
    }
    let code = "def Process(event):\n    n = event['data']\n    return {'type': 'a', 'data': n if n == 'innocent' else \
                'x' * n}";
    let engine = load_with(bare(), code).await.unwrap();
    let error = ask(&engine, json!(9 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), "failed");
    assert!(error.to_string().contains("8388608 are allowed"), "{error}");
    let large = ask(&engine, json!(4 << 20)).await.unwrap();
    assert_eq!(large.as_str().unwrap().len(), 4 << 20);
    assert_serves(&engine).await;
}

#[tokio::test]
async fn a_forged_error_neither_floods_nor_steers() {
    if !confines() {
        return;
    }
    let body = "
        import json, time
        body = json.dumps({'type': 'error', 'id': '1', 'message': '\\x1b[2J' + 'x' * 4000000}).encode()
        os.write(0, len(body).to_bytes(4, 'big') + body[:65536])
        rest = body[65536:]
        while rest: rest = rest[os.write(0, rest):]
        time.sleep(1e6)";
    let (worker, got) = tried(&HASTY, body).await;
    let words = got.unwrap_err().to_string();
    assert!(
        words.len() < 5000 && !words.contains('\x1b'),
        "{} bytes",
        words.len()
    );
    let begin = Instant::now();
    while ask(&worker, json!("innocent")).await != Ok(json!("innocent")) {
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn the_working_folder_tells_nothing() {
    if !confines() {
        return;
    }
    let code = "import os\ndef Process(event):\n    return {'type': 'a', 'data': os.getcwd()}";
    let worker = load(&BARE, code.to_owned()).await.unwrap();
    assert_eq!(ask(&worker, json!(0)).await, Ok(json!("/")));
}

#[tokio::test]
async fn a_thread_left_behind_that_burns_a_processor_is_ended() {
    if !confines() {
        return;
    }
    let engine = engine(PythonSettings {
        ping_every: Duration::from_millis(200),
        idle_cpu: Duration::from_millis(300),
        ..bare()
    });
    let code = "import os, threading\n\
                def burn():\n    while True: pass\n\
                def Process(event):\n    threading.Thread(target=burn, daemon=True).start()\n    \
                return {'type': 'a', 'data': os.getpid()}";
    let worker = load(&engine, code.to_owned()).await.unwrap();
    let first = ask(&worker, json!(0)).await.unwrap();
    let begin = Instant::now();
    while std::path::Path::new(&format!("/proc/{first}")).exists() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(ask(&worker, json!(0)).await.unwrap(), first);
}

#[tokio::test]
async fn answering_twice_is_refused() {
    if !confines() {
        return;
    }
    let body = "
        import json
        body = json.dumps({'type': 'result', 'id': '1'}).encode()
        for _ in range(2): os.write(0, len(body).to_bytes(4, 'big') + body)";
    // The first answer is one; the second one ends the process.
    let (worker, got) = tried(&BARE, body).await;
    assert_eq!(got, Ok(Value::Null));
    let begin = Instant::now();
    while ask(&worker, json!("innocent")).await != Ok(json!("innocent")) {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn stealing_events_from_the_control_socket_ends_in_its_own_time() {
    if !confines() {
        return;
    }
    let code = "import os, threading\n\
                def steal():\n    while True: os.read(int(os.dup(0)), 1)\n\
                def Process(event):\n    if event['data'] == 'steal':\n        \
                for _ in range(8): threading.Thread(target=steal, daemon=True).start()\n    \
                return {'type': 'a', 'data': event['data']}";
    let worker = load(&HASTY, code.to_owned()).await.unwrap();
    assert_eq!(ask(&worker, json!("steal")).await, Ok(json!("steal")));
    let begin = Instant::now();
    while ask(&worker, json!("innocent")).await != Ok(json!("innocent")) {
        assert!(begin.elapsed() < Duration::from_secs(15));
    }
}

#[tokio::test]
async fn a_thread_bomb_is_refused() {
    if !confines() {
        return;
    }
    for engine in engines() {
        let body = "
        import threading, time
        threading.stack_size(65536)
        while True: threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()";
        let (worker, got) = tried(engine, body).await;
        match got {
            // The user's limit of threads, or that of memory.
            Ok(got) => assert!(
                [json!("RuntimeError"), json!("MemoryError")].contains(&got),
                "{got}"
            ),
            Err(error) => assert_eq!(error.kind(), "crashed", "{error}"),
        }
        // What is left of it is found at the next look, at the latest.
        let begin = Instant::now();
        while ask(&worker, json!("innocent")).await != Ok(json!("innocent")) {
            assert!(begin.elapsed() < Duration::from_secs(10));
        }
    }
}

#[tokio::test]
async fn the_environment_holds_nothing_of_the_hosts() {
    if !confines() {
        return;
    }
    let (_, got) = tried(&BARE, "raise Exception(dict(os.environ))").await;
    assert_eq!(got, Ok(json!("Exception")));
    let code = "import os\ndef Process(event):\n    return {'type': 'a', 'data': dict(os.environ)}";
    let worker = load(&BARE, code.to_owned()).await.unwrap();
    // The first is the interpreter's own doing, from its flag for UTF-8.
    let environment = ask(&worker, json!(0)).await.unwrap();
    let names: Vec<&String> = environment.as_object().unwrap().keys().collect();
    assert!(
        names.iter().all(|name| [
            "LC_CTYPE",
            "MALLOC_ARENA_MAX",
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS"
        ]
        .contains(&name.as_str())),
        "{names:?}"
    );
}

#[tokio::test]
async fn only_three_descriptors_are_there() {
    if !confines() {
        return;
    }
    // One without the flag that closes it at exec, as careless libraries leave behind.
    let left = std::fs::File::open("/etc/passwd").unwrap();
    let inherited = rustix::io::fcntl_getfd(&left).unwrap();
    rustix::io::fcntl_setfd(&left, inherited.difference(rustix::io::FdFlags::CLOEXEC)).unwrap();
    let code = "import os\ndef Process(event):\n    there = []\n    for n in range(256):\n        \
                try: os.fstat(n); there.append(n)\n        except OSError: pass\n    \
                return {'type': 'a', 'data': there}";
    let worker = load(&BARE, code.to_owned()).await.unwrap();
    assert_eq!(ask(&worker, json!(0)).await, Ok(json!([0, 1, 2])));
}

// The second wall: modules.
not_loaded! {
    importing_os_names_it, "the module 'os' is blocked", "import os";
    importing_a_part_of_os_names_it, "'os", "from os import path";
    importing_subprocess_names_it, "the module 'subprocess' is blocked", "import subprocess";
    importing_socket_names_it, "the module 'socket' is blocked", "import socket";
    importing_requests_names_it, "the module 'requests' is blocked", "import requests";
    importing_ctypes_names_it, "the module 'ctypes' is blocked", "import ctypes";
    importing_sys_names_it, "the module 'sys' is blocked", "import sys";
    importing_importlib_names_it, "the module 'importlib' is blocked", "import importlib";
    importing_pickle_names_it, "the module 'pickle' is blocked", "import pickle";
    importing_codecs_names_it, "the module 'codecs' is not among", "import codecs";
    importing_a_hidden_twin_names_it, "the module '_socket' is not among", "import _socket";
    importing_posix_names_it, "the module 'posix' is blocked", "import posix";
    importing_under_another_name_names_it, "the module 'os' is blocked", "import os as json";
    importing_the_main_module_names_it, "the module '__main__' is not among", "import __main__";
    importing_a_package_nobody_allowed_names_it, "the module 'numpy' is not among", "import numpy";
    importing_a_blocked_part_names_it, "the module 'urllib.request' is blocked", "import urllib.request";
    importing_a_blocked_part_by_its_package_names_it, "'urllib.request' is blocked", "from urllib import request";
    importing_everything_of_os_names_it, "'os", "from os import *";
    the_subclasses_of_object_are_closed, "'__subclasses__' is closed", "().__class__.__subclasses__()";
    the_bases_of_a_class_are_closed, "closed to workers", "().__class__.__bases__[0]";
    builtins_by_name_are_closed, "'__builtins__' is closed", "__builtins__['open']('/etc/passwd')";
    a_functions_globals_are_closed, "'__globals__' is closed", "import json\njson.dumps.__globals__";
    a_modules_loader_is_closed, "'__loader__' is closed", "import json\njson.__loader__.load_module('os')";
    a_frame_is_closed, "closed to workers", "(x for x in ()).gi_frame.f_back";
    a_traceback_is_closed, "closed to workers", "try: 1/0\nexcept Exception as e: e.__traceback__.tb_frame";
    a_pattern_with_a_closed_name_is_closed, "SyntaxError",
        "match int:\n    case object(__mro__=found): found\n";
}

walled! {
    the_import_function_is_guarded, "the module 'os' is blocked", "return __import__('os')";
    a_forged_package_does_not_help, "worker has no package",
        "return __import__('os', {'__name__': 'json', '__package__': 'json'}, None, (), 1)";
    a_name_that_is_no_plain_text_does_not_help, "is blocked", "
        class Name(str):
            def split(self, *a): return ['json']
        return __import__(Name('os'))";
    evaluating_is_not_there, "NameError", "return eval('1')";
    executing_is_not_there, "NameError", "exec('1')";
    compiling_is_not_there, "NameError", "return compile('1', 'x', 'eval')";
    opening_is_not_there, "NameError", "return open('/etc/passwd')";
    the_debugger_is_not_there, "NameError", "breakpoint()";
    a_composed_attribute_is_guarded, "'__subclasses__' is closed", "return getattr(object, '__sub' + 'classes__')()";
    os_by_a_library_cannot_start_programs, "os.system is closed", "import random; return random._os.system('/bin/true')";
    os_by_a_library_cannot_fork, "os.fork is closed", "import random; return random._os.fork()";
    os_by_a_library_cannot_open, "closed to workers", "import random; return random._os.open('/etc/passwd', 0)";
    os_by_a_library_cannot_list, "os.listdir of '/' is closed", "import random; return random._os.listdir('/')";
    os_by_a_library_cannot_kill, "os.kill is closed", "import random; return random._os.kill(1, 9)";
    os_by_a_library_cannot_write_code, "closed to workers", "
        import random
        return random._os.open(random._os.__file__, random._os.O_RDWR)";
    popen_by_a_library_is_blocked, "'subprocess'", "import random; return random._os.popen('true')";
    the_table_of_modules_leads_to_no_door, "os.system is closed", "
        import collections
        return collections._sys.modules['os'].system('/bin/true')";
    codecs_by_a_library_cannot_open, "closed to workers", "import json; return json.codecs.open('/etc/passwd')";
    a_log_file_is_refused, "closed to workers", "import logging; return logging.FileHandler('/tmp/made-by-a-worker')";
    attributes_by_another_function_lead_to_no_door, "os.system is closed", "
        from operator import attrgetter
        for kind in attrgetter('__subclasses__')(object)():
            if kind.__name__ == '_wrap_close':
                return attrgetter('__init__.__globals__')(kind)['system']('/bin/true')
        raise Exception('no such class')";
    the_real_import_cannot_load_sockets, "'socket' is blocked", "
        from operator import attrgetter
        import json
        return attrgetter('__builtins__')(json)['__import__']('socket')";
    the_real_import_cannot_load_the_sockets_twin, "'_socket' is blocked", "
        from operator import attrgetter
        import json
        return attrgetter('__builtins__')(json)['__import__']('_socket')";
    a_loader_cannot_read_files, "open of '/etc/passwd' is closed", "
        from operator import attrgetter
        import json
        loader = attrgetter('__loader__.__class__')(json)
        return loader('x', '/etc/passwd').get_data('/etc/passwd')";
    a_loader_cannot_rename_a_blocked_module, "is blocked", "
        from operator import attrgetter
        import json
        loader = attrgetter('__loader__.__class__')(json)
        return loader('x', attrgetter('__file__')(json).replace('json/__init__', 'subprocess')).load_module()";
    pickle_by_the_real_import_finds_nothing, "pickle.find_class is closed", "
        from operator import attrgetter
        import json
        pickle = attrgetter('__builtins__')(json)['__import__']('pickle')
        return pickle.loads(b'cos\\nsystem\\n(S\\'true\\'\\ntR.')";
    another_hook_is_not_taken, "no hook", "
        import collections
        heard = []
        collections._sys.addaudithook(lambda *event: heard.append(event))
        compile = collections.namedtuple('Pair', 'a b')
        if heard: return heard
        raise Exception('no hook')";
    another_interpreter_is_blocked, "blocked", "
        from operator import attrgetter
        import json
        return attrgetter('__builtins__')(json)['__import__']('_xxsubinterpreters').create()";
    collecting_garbage_shows_nothing, "gc.get_objects is closed", "
        from operator import attrgetter
        import json
        return len(attrgetter('__builtins__')(json)['__import__']('gc').get_objects())";
}

/// How long an innocent worker's events took, and the host's own timer of a millisecond.
#[derive(Default)]
struct Latency {
    events: Vec<Duration>,
    ticks: Vec<Duration>,
}

impl Latency {
    async fn look(&mut self, calm: &Arc<dyn Engine>) {
        let begin = Instant::now();
        assert_eq!(ask(calm, json!(21)).await, Ok(json!(42)));
        self.events.push(begin.elapsed());
        let begin = Instant::now();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.ticks.push(begin.elapsed());
    }

    /// Median and 99th percentile, of events and of ticks.
    fn figures(mut self) -> [Duration; 4] {
        let mut at = [Duration::ZERO; 4];
        for (place, times) in [&mut self.events, &mut self.ticks].into_iter().enumerate() {
            times.sort();
            let part = |part: usize| times[(times.len() - 1) * part / 100];
            (at[2 * place], at[2 * place + 1]) = (part(50), part(99));
        }
        at
    }
}

/// While one worker does its worst, others of the same host answer as if it were not there. Both are measured in turns,
/// since what else the machine does meanwhile is in either. The bounds are for a machine of two processors that runs
/// all these tests at once; `docs/sandbox.md` has figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_are_served_meanwhile() {
    const ROUNDS: usize = 3;
    const LOOKS: usize = 200;
    if !confines() {
        return;
    }
    for (name, body) in [
        ("processor loops", "while True: pass"),
        (
            "memory bombs",
            "
        while True:
            try:
                hoard = []
                while True: hoard.append(bytearray(16 << 20))
            except MemoryError: hoard = None",
        ),
        (
            "fork bombs",
            "
        while True:
            try: os.fork()
            except PermissionError: pass",
        ),
        (
            "floods of standard error",
            "while True: os.write(2, b'x\\n' * 2048)",
        ),
    ] {
        let code = format!("{}{}{RUN}", prelude(), attempt(body));
        let calm = load(&WALLED, DOUBLE.to_owned()).await.unwrap();
        let (mut without, mut with) = (Latency::default(), Latency::default());
        for _ in 0..ROUNDS {
            for _ in 0..LOOKS {
                without.look(&calm).await;
            }
            let hostile = load(&HASTY, code.clone()).await.unwrap();
            let attacker = hostile.clone();
            let attacks = tokio::spawn(async move {
                futures::future::join_all((0..4).map(|_| ask(&attacker, json!("attempt")))).await
            });
            let mut looks = 0;
            while !attacks.is_finished() && looks < LOOKS {
                with.look(&calm).await;
                looks += 1;
            }
            // Its process is gone before the next round's first half.
            let _ = attacks.await;
            hostile.close().await;
        }
        let looks = with.events.len();
        let [base, base_99, base_tick, base_tick_99] = without.figures();
        let [event, event_99, tick, tick_99] = with.figures();
        println!(
            "{name}, {looks} events of another worker beside it: p50 {event:?} (without {base:?}), p99 {event_99:?} \
             (without {base_99:?}); the host's own 1 ms timer p50 {tick:?} (without {base_tick:?}), p99 {tick_99:?} \
             (without {base_tick_99:?})"
        );
        assert!(looks > ROUNDS, "{name}: only {looks}");
        for (what, with, without, most) in [
            ("event p50", event, base, 100),
            ("event p99", event_99, base_99, 500),
            ("tick p50", tick, base_tick, 100),
            ("tick p99", tick_99, base_tick_99, 250),
        ] {
            let more = with.saturating_sub(without);
            assert!(
                more < Duration::from_millis(most),
                "{name}: {what} {with:?}, without {without:?}"
            );
        }
    }
}
