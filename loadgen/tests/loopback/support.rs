//! A relay of the test's own, and the program.

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use aip_engine::{
    io::{self, Config, Handle, Identity},
    relay::{self, Relay},
    transport::Driver,
};

/// A relay on a thread of this process.
pub(crate) struct RelayNode {
    handle: Handle<<Relay as Driver>::Command>,
}

impl RelayNode {
    pub(crate) fn start() -> Self {
        let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config::server(vec![listen], Identity::Development);
        let handle = io::spawn(config, || Relay::new(relay::Config::default())).unwrap();
        Self { handle }
    }

    pub(crate) fn url(&self) -> String {
        format!("moqt://{}", self.handle.addresses()[0])
    }
}

impl Drop for RelayNode {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// Runs the program. What it is given decides how long it takes.
pub(crate) fn aip_load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aip-load")).args(arguments).output().unwrap()
}

/// The report that the program printed; also of runs that are invalid because this machine is busy.
#[track_caller]
pub(crate) fn report_of(output: &Output) -> aip_load::report::Report {
    let errors = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap();
    assert!(code == 0 || code == 3, "exit code {code}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}
