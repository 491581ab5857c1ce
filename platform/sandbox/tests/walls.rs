//! The launcher itself: what it grants, what it refuses, and that its programs do not outlive their host. What
//! programs try against the walls is in the corpus of `engine-python`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use outrigger_platform_sandbox::{
    ARGUMENT, EXIT_REFUSED, Identity, Launcher, Network, Policy, Support, WhenMissing,
};
use tokio::io::AsyncReadExt as _;

const LAUNCHER: &str = env!("CARGO_BIN_EXE_outrigger-sandbox");

/// Whether this machine has what the tests need; says so if not.
#[expect(clippy::print_stderr, reason = "why tests are skipped is said there")]
fn confines() -> bool {
    let support = Support::of_this_kernel();
    let shell = Path::new("/bin/sh").exists() && Path::new("/usr/bin/python3").exists();
    if !support.is_enough() || !shell {
        eprintln!("skipped: {support}, programs for it: {shell}");
    }
    support.is_enough() && shell
}

/// Python with some code, behind the strictest walls it can start behind.
fn python(code: &str) -> Policy {
    let mut policy = Policy::new(std::fs::canonicalize("/usr/bin/python3").unwrap());
    policy.args = ["-I", "-S", "-B", "-X", "utf8", "-c", code]
        .map(str::to_owned)
        .to_vec();
    policy.read = ["/usr/lib", "/lib", "/lib64", "/usr/lib64"]
        .map(Into::into)
        .to_vec();
    policy
}

/// Runs it to its end: its exit code and what it wrote to standard error.
async fn run(policy: &Policy) -> (Option<i32>, String) {
    let launcher = Launcher::new(LAUNCHER).unwrap();
    let (mut confined, mut streams) = launcher.start(policy).await.unwrap();
    let mut said = String::new();
    streams.stderr.read_to_string(&mut said).await.unwrap();
    (confined.child.wait().await.unwrap().code(), said)
}

#[tokio::test]
async fn a_program_speaks_over_its_socket() {
    if !confines() {
        return;
    }
    let launcher = Launcher::new(LAUNCHER).unwrap();
    let policy = python("import os; os.write(0, os.read(0, 100).upper())");
    let (mut confined, streams) = launcher.start(&policy).await.unwrap();
    let mut control = streams.control;
    tokio::io::AsyncWriteExt::write_all(&mut control, b"hello")
        .await
        .unwrap();
    let mut answer = String::new();
    control.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "HELLO");
    assert!(confined.child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_scratch_folder_is_all_that_can_be_written() {
    if !confines() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let code = "
import os, sys
scratch = sys.argv[1]
def refused(what):
    try: what()
    except OSError as error: return error.errno
    return 'done'
os.mkdir(scratch + '/sub')
with open(scratch + '/sub/a', 'w') as file: file.write('kept')
os.rename(scratch + '/sub/a', scratch + '/sub/b')
print([
    open(scratch + '/sub/b').read(),
    refused(lambda: open(scratch + '/../beside', 'w')),
    refused(lambda: os.symlink('/etc/passwd', scratch + '/link')),
    refused(lambda: os.chmod(scratch + '/sub/b', 0o4755)),
    refused(lambda: os.mkfifo(scratch + '/pipe')),
    refused(lambda: open(scratch + '/large', 'wb', 0).write(bytes(2 << 20))),
    refused(lambda: [open(scratch + '/large', 'ab', 0).write(b'x') for _ in range(2)]),
], file=sys.stderr)";
    let mut policy = python(code);
    policy.args.push(folder.path().display().to_string());
    policy.scratch = Some(folder.path().to_owned());
    policy.limits.file_size = 1 << 20;
    let (code, said) = run(&policy).await;
    assert_eq!(
        (code, said.trim()),
        // Not allowed by Landlock 13, by seccomp 1; too large 27: the first write is short, the next one fails.
        (Some(0), "['kept', 13, 1, 1, 1, 'done', 27]")
    );
    assert_eq!(
        std::fs::read_to_string(folder.path().join("sub/b")).unwrap(),
        "kept"
    );
    assert_eq!(
        std::fs::metadata(folder.path().join("large")).unwrap().len(),
        1 << 20
    );
}

#[tokio::test]
async fn the_network_is_outgoing_only_and_only_if_granted() {
    if !confines() {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let code = format!(
        "
import socket, sys
def refused(what):
    try: what()
    except OSError as error: return error.errno
    return 'done'
print([
    refused(lambda: socket.create_connection(('127.0.0.1', {port}), 5).close()),
    refused(lambda: socket.create_server(('127.0.0.1', 0))),
    refused(lambda: socket.socket(socket.AF_UNIX)),
    refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)),
], file=sys.stderr)"
    );
    let mut policy = python(&code);
    assert_eq!(run(&policy).await.1.trim(), "[1, 1, 1, 1, 1]");
    policy.network = Network::Outgoing;
    assert_eq!(run(&policy).await.1.trim(), "['done', 1, 1, 1, 1]");
}

#[tokio::test]
async fn threads_may_be_denied() {
    if !confines() {
        return;
    }
    let code = "
import sys, threading
try: threading.Thread(target=print).start()
except RuntimeError: print('denied', file=sys.stderr)";
    let mut policy = python(code);
    assert_eq!(run(&policy).await.1.trim(), "");
    policy.threads = false;
    assert_eq!(run(&policy).await.1.trim(), "denied");
}

#[tokio::test]
async fn the_end_of_the_processor_time_is_final() {
    if !confines() {
        return;
    }
    let mut policy = python("import signal\nsignal.signal(24, signal.SIG_IGN)\nwhile True: pass");
    policy.limits.cpu = Duration::from_secs(1);
    assert_eq!(run(&policy).await.0, None);
}

#[tokio::test]
async fn nothing_of_the_host_is_inherited() {
    if !confines() {
        return;
    }
    // Ten below the host, whatever the host's own place is.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let own = stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap();
    let nice = (own.parse::<i32>().unwrap() + 10).min(19);
    let code = format!(
        "
import os, sys
# The bounding set is left out: those who may not lower it keep it, and without new privileges it gives nothing.
names = ('CapInh', 'CapPrm', 'CapEff', 'CapAmb', 'NoNewPrivs', 'Seccomp:')
state = [line.split()[1].lstrip('0') for line in open('/proc/self/status') if line.startswith(names)]
nice = int(open('/proc/self/stat').read().rpartition(')')[2].split()[16])
print([dict(os.environ), state, os.getsid(0) == os.getpid(), nice == {nice}], file=sys.stderr)"
    );
    let mut policy = python(&code);
    policy.env.insert("LC_CTYPE".to_owned(), "C.UTF-8".to_owned());
    policy.read.push("/proc".into());
    let (_, said) = run(&policy).await;
    assert_eq!(
        said.trim(),
        "[{'LC_CTYPE': 'C.UTF-8'}, ['', '', '', '', '1', '2'], True, True]"
    );
}

#[tokio::test]
async fn root_may_become_another_user_and_others_are_told_that_they_may_not() {
    if !confines() {
        return;
    }
    let mut policy =
        python("import os, sys; print(os.getresuid(), os.getresgid(), os.getgroups(), file=sys.stderr)");
    policy.identity = Identity::NOBODY;
    let (code, said) = run(&policy).await;
    if code == Some(0) {
        assert_eq!(said.trim(), "(65534, 65534, 65534) (65534, 65534, 65534) []");
    } else {
        assert_eq!(code, Some(i32::from(EXIT_REFUSED)));
        assert!(said.contains("the user cannot be set up"), "{said}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    if !confines() {
        return;
    }
    let (code, said) = run(&Policy::new("/nowhere/program")).await;
    assert_eq!(code, Some(i32::from(EXIT_REFUSED)));
    assert!(said.contains("/nowhere/program cannot be started"), "{said}");
}

/// A launcher by hand, on a kernel that seems to lack something.
fn on_a_lesser_kernel(lacks: &str, policy: &Policy) -> (Option<i32>, String) {
    let output = Command::new(LAUNCHER)
        .args(["--lacks", lacks, ARGUMENT, &std::process::id().to_string()])
        .arg(serde_json::to_string(policy).unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_kernel_without_a_wall_is_a_refusal() {
    if !confines() {
        return;
    }
    let mut policy = python("import sys; print('runs', file=sys.stderr)");
    for (lacks, words) in [
        ("landlock", "the kernel cannot confine programs: no Landlock"),
        ("seccomp", "seccomp cannot be set up"),
    ] {
        policy.when_missing = WhenMissing::Refuse;
        let (code, said) = on_a_lesser_kernel(lacks, &policy);
        assert_eq!(code, Some(i32::from(EXIT_REFUSED)), "{said}");
        assert!(said.contains(words), "{said}");
        policy.when_missing = WhenMissing::GoWithout;
        assert_eq!(on_a_lesser_kernel(lacks, &policy), (Some(0), "runs\n".to_owned()));
    }
}

#[test]
fn a_wrong_request_is_refused() {
    for args in [&[ARGUMENT][..], &[ARGUMENT, "x", "{}"], &[ARGUMENT, "1", "{}"]] {
        let output = Command::new(LAUNCHER).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(EXIT_REFUSED)));
        assert!(!output.stderr.is_empty());
    }
    // Not the process that asked.
    let policy = serde_json::to_string(&Policy::new("/bin/true")).unwrap();
    let output = Command::new(LAUNCHER)
        .args([ARGUMENT, "1", &policy])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("is gone") || said.contains("cannot confine"),
        "{said}"
    );
}

#[test]
fn a_program_does_not_outlive_its_host() {
    if !confines() {
        return;
    }
    let policy =
        python("import os, sys, time\nprint(os.getpid(), file=sys.stderr, flush=True)\ntime.sleep(1000)");
    // The shell is the host; it waits for its own input.
    let mut host = Command::new("/bin/sh")
        .args(["-c", "\"$0\" \"$1\" $$ \"$2\" & read end", LAUNCHER, ARGUMENT])
        .arg(serde_json::to_string(&policy).unwrap())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(host.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let process = format!("/proc/{}", line.trim().parse::<u32>().unwrap());
    assert!(Path::new(&process).exists());
    host.kill().unwrap();
    host.wait().unwrap();
    let begin = Instant::now();
    while runs(&process) {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

/// Whether a process still runs: one that nobody has waited for yet is dead, too.
fn runs(process: &str) -> bool {
    let mut stat = String::new();
    match std::fs::File::open(format!("{process}/stat")).and_then(|mut file| file.read_to_string(&mut stat)) {
        Ok(_) => !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => false,
    }
}
