//! A relay of the test's own, and the program.

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use aip_engine::{
    io::{self, Config, Handle, Identity},
    relay,
    shard::Shard,
    transport::Driver,
};

/// A relay of three workers in this process, so that much goes from one to another.
pub(crate) struct RelayNode {
    handle: Handle<<Shard as Driver>::Command>,
}

impl RelayNode {
    pub(crate) fn start() -> Self {
        let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config::server(vec![listen], Identity::Development).with_workers(3);
        let limits = relay::Config::default();
        let shard = move |place| Shard::new(&limits, place, false);
        let handle = io::spawn_workers(config, shard).unwrap();
        Self { handle }
    }

    /// Objects that it sent to subscribers, as of about a second ago.
    pub(crate) fn objects_forwarded(&self) -> u64 {
        self.handle.metrics().service.map_or(0, |service| service.counters.objects_forwarded_total)
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
