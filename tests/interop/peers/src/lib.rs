//! What the programs have in common: arguments, cases one after another, TAP.

use std::{
    env,
    error::Error,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a case's end is.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Where a relay is, and in which draft it is spoken to.
#[derive(Clone, Debug)]
pub struct Relay {
    /// `moqt://host:port` or `https://host:port/path`.
    pub url: String,
    /// The draft's number.
    pub draft: u8,
}

impl Relay {
    /// `PROGRAM URL DRAFT`.
    ///
    /// # Errors
    /// If the arguments are others.
    pub fn of_arguments() -> Outcome<Self> {
        let arguments: Vec<String> = env::args().skip(1).collect();
        match &arguments[..] {
            [url, draft] => Ok(Self { url: url.clone(), draft: draft.parse()? }),
            _ => Err("usage: PROGRAM moqt://HOST:PORT|https://HOST:PORT/PATH DRAFT".into()),
        }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        let rest = self.url.split_once("://").map_or(&self.url[..], |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }

    /// Whether it is reached over WebTransport.
    pub fn is_webtransport(&self) -> bool {
        self.url.starts_with("https://")
    }
}

/// A namespace of two fields that no other run uses.
pub fn namespace() -> Vec<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    vec![b"aip-interop".to_vec(), now.to_string().into_bytes()]
}

/// A case: its name and what it does.
pub type Case = (&'static str, fn(Relay) -> Pin<Box<dyn Future<Output = Outcome>>>);

/// Runs cases one after another and tells of each as TAP; whether all passed.
pub async fn run(relay: &Relay, cases: &[Case]) -> bool {
    println!("TAP version 14\n1..{}", cases.len());
    let mut all = true;
    for (index, (name, case)) in cases.iter().enumerate() {
        let number = index + 1;
        let outcome = match tokio::time::timeout(PATIENCE, case(relay.clone())).await {
            Ok(outcome) => outcome,
            Err(_) => Err("nothing within 20 s".into()),
        };
        match outcome {
            Ok(()) => println!("ok {number} - {name}"),
            Err(error) => {
                all = false;
                let error = error.to_string().replace('\n', " ");
                println!("not ok {number} - {name}\n  ---\n  message: {error:?}\n  ...");
            }
        }
    }
    all
}

/// Fails unless `holds`.
///
/// # Errors
/// What was expected, and what came.
pub fn ensure(holds: bool, expected: &str, came: impl std::fmt::Debug) -> Outcome {
    if holds { Ok(()) } else { Err(format!("expected {expected}, got {came:?}").into()) }
}
