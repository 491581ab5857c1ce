//! Verbs of `dapr` that are not served: each says so and what to do instead, and leaves with 1 as `-k` does. Scripts
//! that call them learn more than that the verb is unknown (requirement D1; upstream `cmd/`).

use clap::{Arg, ArgMatches, Command};

/// A verb and the answer to it. `NAME` in texts is the name this program was called by.
struct Absent {
    verb: &'static str,
    aliases: &'static [&'static str],
    /// What is not there.
    why: &'static str,
    /// What to do, as a whole sentence's end.
    instead: &'static str,
    /// Commands that can be typed for that.
    examples: &'static str,
}

const OTHER_DAPRD: &str = "Dapr's own daprd has them: NAME run starts the program that OUTRIGGER_DAPRD names";

const OTHER_DAPRD_EXAMPLE: &str =
    "  OUTRIGGER_DAPRD=~/.dapr/bin/daprd NAME run --app-id orders -- node app.js";

const ABSENT: [Absent; 7] = [
    Absent {
        verb: "status",
        aliases: &[],
        why: "there is no control plane whose health it could tell",
        instead: "NAME list shows the sidecars of this machine, NAME doctor says what is wrong",
        examples: "  NAME list\n  NAME doctor",
    },
    Absent {
        verb: "mtls",
        aliases: &[],
        why: "mutual TLS between sidecars needs a control plane",
        instead: "sidecars of NAME run listen on loopback only, as long as DAPR_HOST_IP is not set",
        examples: "  NAME run --app-id orders -- node app.js",
    },
    Absent {
        verb: "renew-certificate",
        aliases: &["renew-cert", "rnc"],
        why: "there are no certificates without mutual TLS, which needs a control plane",
        instead: "sidecars of NAME run listen on loopback only, as long as DAPR_HOST_IP is not set",
        examples: "  NAME run --app-id orders -- node app.js",
    },
    Absent {
        verb: "workflow",
        aliases: &["wf"],
        why: "there are no workflows yet",
        instead: OTHER_DAPRD,
        examples: OTHER_DAPRD_EXAMPLE,
    },
    Absent {
        verb: "scheduler",
        aliases: &["sched"],
        why: "there are no jobs and reminders yet",
        instead: OTHER_DAPRD,
        examples: OTHER_DAPRD_EXAMPLE,
    },
    Absent {
        verb: "annotate",
        aliases: &[],
        why: "it is for Kubernetes",
        instead: "write dapr.io/enabled, dapr.io/app-id and dapr.io/app-port into the manifest by hand; without Kubernetes NAME run takes the same settings as flags",
        examples: "  NAME run --app-id orders --app-port 3000 -- node app.js",
    },
    Absent {
        verb: "upgrade",
        aliases: &[],
        why: "it is for Kubernetes",
        instead: "replace this program by a newer one, then NAME init",
        examples: "  NAME version\n  NAME init",
    },
];

/// Adds the verbs, out of sight: help and completion offer only what is served.
pub(super) fn add_to(command: Command, name: &str) -> Command {
    ABSENT.iter().fold(command, |command, absent| {
        let said = |text: &str| text.replace("NAME", name);
        command.subcommand(
            Command::new(absent.verb)
                .aliases(absent.aliases.iter().copied())
                .hide(true)
                .about(format!("Not served by this version: {}", said(absent.why)))
                .after_help(format!(
                    "Instead: {}\n\nExamples:\n{}",
                    said(absent.instead),
                    said(absent.examples)
                ))
                // Whatever dapr takes there.
                .arg(
                    Arg::new("words")
                        .num_args(0..)
                        .trailing_var_arg(true)
                        .allow_hyphen_values(true)
                        .hide(true),
                ),
        )
    })
}

/// The answer, when the verb is one of these.
pub(super) fn answer(matches: &ArgMatches, name: &str) -> Option<String> {
    let verb = matches.subcommand_name()?;
    let absent = ABSENT.iter().find(|absent| absent.verb == verb)?;
    let text = format!(
        "{verb} is not served by this version: {}. {}",
        absent.why, absent.instead
    );
    Some(text.replace("NAME", name))
}
