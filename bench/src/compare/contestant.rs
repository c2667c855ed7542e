//! Who is compared, how each is started and how it is installed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// What stands behind a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Our relay.
    Ours,
    /// Bare quiche, doing the same work.
    Quiche,
    /// Bare UDP: what the kernel alone costs.
    Udp,
    /// Other people's relay.
    Peer,
}

/// One that is compared.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// Name and version.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its program, below the folder of peers or beside our own.
    program: &'static str,
    /// The command that installs it; `PEERS` stands for the folder of peers.
    pub install: &'static [&'static str],
    /// More subscribers than this are not asked of it.
    pub subscribers_max: usize,
}

/// All that are known. Those that need a build from a checkout of their sources are not among
/// them: moqtail, moxygen, moqx, imquic, libquicr.
pub const ALL: [Contestant; 6] = [
    Contestant {
        name: "aip-relay",
        kind: Kind::Ours,
        program: "aip-relay",
        install: &[],
        subscribers_max: usize::MAX,
    },
    Contestant {
        name: "bare quiche",
        kind: Kind::Quiche,
        program: "aip-control",
        install: &[],
        subscribers_max: usize::MAX,
    },
    Contestant {
        name: "bare UDP",
        kind: Kind::Udp,
        program: "aip-control",
        install: &[],
        subscribers_max: 1_000,
    },
    Contestant {
        name: "moq-relay-ietf 0.8.0",
        kind: Kind::Peer,
        program: "bin/moq-relay-ietf",
        install: &["cargo", "install", "--root", "PEERS", "--locked", "moq-relay-ietf@0.8.0"],
        subscribers_max: usize::MAX,
    },
    Contestant {
        name: "moq-relay 0.17.10",
        kind: Kind::Peer,
        program: "bin/moq-relay",
        install: &[
            "cargo",
            "install",
            "--root",
            "PEERS",
            "moq-relay@0.17.10",
            "--no-default-features",
            "--features",
            "noq,websocket",
        ],
        subscribers_max: usize::MAX,
    },
    // Written in Python for tests, not for speed.
    Contestant {
        name: "moq-interop-relay (aiomoqt 0.13.3)",
        kind: Kind::Peer,
        program: "aiomoqt/bin/moq-interop-relay",
        install: &[
            "sh",
            "-c",
            "python3 -m venv PEERS/aiomoqt && PEERS/aiomoqt/bin/pip install aiomoqt==0.13.3 uvloop",
        ],
        subscribers_max: 10,
    },
];

impl Contestant {
    /// Where its program is.
    pub fn program(&self, programs: &Path, peers: &Path) -> PathBuf {
        let folder = if self.kind == Kind::Peer { peers } else { programs };
        folder.join(self.program)
    }

    /// Whether it is there.
    pub fn is_installed(&self, programs: &Path, peers: &Path) -> bool {
        self.program(programs, peers).is_file()
    }

    /// The command that installs it into a folder, as one would type it.
    pub fn install_line(&self, peers: &Path) -> String {
        let words = self
            .install
            .iter()
            .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() });
        words.collect::<Vec<_>>().join(" ").replace("PEERS", &peers.to_string_lossy())
    }

    /// The command that installs it into a folder; `None` if it is part of this project.
    pub fn install(&self, peers: &Path) -> Option<Command> {
        let place = peers.to_string_lossy();
        let mut words = self.install.iter().map(|word| word.replace("PEERS", &place));
        let mut command = Command::new(words.next()?);
        command.args(words);
        Some(command)
    }

    /// The command that starts it at an address with `certificates/cert.pem` and `key.pem` in
    /// `folder`, where it may keep files, too.
    pub fn start(&self, program: &Path, address: SocketAddr, folder: &Path) -> Command {
        let mut command = Command::new(program);
        let (certificate, key) =
            (folder.join("certificates/cert.pem"), folder.join("certificates/key.pem"));
        let address_text = address.to_string();
        match self.program {
            "aip-relay" => {
                command.args(["--open", "--listen", &address_text, "--cert"]).arg(certificate);
                command.arg("--key").arg(key);
            }
            "aip-control" => {
                command.args(["quiche", "--listen", &address_text, "--cert"]).arg(certificate);
                command.arg("--key").arg(key);
            }
            "bin/moq-relay-ietf" => {
                command.args(["--bind", &address_text, "--tls-cert"]).arg(certificate);
                command.arg("--tls-key").arg(key);
                command.arg("--coordinator-file").arg(folder.join("coordinator.json"));
            }
            "bin/moq-relay" => {
                command.args(["--listen", &address_text, "--listen-tls-cert"]).arg(certificate);
                command.arg("--listen-tls-key").arg(key).args(["--auth-public", "**"]);
            }
            _ => {
                let (host, port) = (address.ip().to_string(), address.port().to_string());
                command.args(["--bind", &host, "--port", &port, "--cert"]).arg(certificate);
                command.arg("--key").arg(key).arg("--dual");
            }
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let nowhere = Path::new("/nowhere");
        for contestant in ALL.iter().filter(|one| one.kind == Kind::Peer) {
            assert!(!contestant.is_installed(nowhere, nowhere));
            let line = contestant.install_line(nowhere);
            assert!(line.contains("install") && line.contains("/nowhere"), "{line}");
            assert!(contestant.install(nowhere).is_some());
        }
    }
}
