//! Trust in certificates, over real sockets.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use super::{Config, Dial, Handle, Identity, Target, Trust, spawn};
use crate::transport::{Action, Closed, Driver, Move, Peer, SessionId, StreamId};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells whether it connected, or why not.
struct Probe {
    tell: mpsc::Sender<Result<(), String>>,
    /// Where its first target is once it has connected.
    moves_to: Option<String>,
    moves: Option<Move>,
}

impl Probe {
    fn new(tell: mpsc::Sender<Result<(), String>>) -> Self {
        Self { tell, moves_to: None, moves: None }
    }
}

impl Driver for Probe {
    type Command = ();

    fn handle_connected(&mut self, _: SessionId, _: Peer, _: Instant) {
        drop(self.tell.send(Ok(())));
        self.moves = self.moves_to.take().map(|uri| Move { target: 0, uri: uri.into() });
    }
    fn handle_stream(&mut self, _: SessionId, _: StreamId, _: Bytes, _: bool, _: Instant) {}
    fn handle_reset(&mut self, _: SessionId, _: StreamId, _: u64, _: Instant) {}
    fn handle_stop(&mut self, _: SessionId, _: StreamId, _: u64, _: Instant) {}
    fn handle_datagram(&mut self, _: SessionId, _: Bytes, _: Instant) {}
    fn handle_sent(&mut self, _: SessionId, _: StreamId, _: usize, _: Instant) {}
    fn handle_closed(&mut self, _: SessionId, _: Closed, _: Instant) {}
    fn handle_unreachable(&mut self, _: usize, reason: &str, _: Instant) {
        drop(self.tell.send(Err(reason.to_owned())));
    }
    fn handle_command(&mut self, (): (), _: Instant) {}
    fn handle_drain(&mut self, _: Instant) {}
    fn is_drained(&self) -> bool {
        true
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        None
    }
    fn poll_move(&mut self) -> Option<Move> {
        self.moves.take()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

fn node(config: Config) -> (Handle<()>, mpsc::Receiver<Result<(), String>>) {
    let (tell, told) = mpsc::channel();
    (spawn(config, || Probe::new(tell)).unwrap(), told)
}

/// A directory of PEM files that is gone at the end.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aip-tls-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Certificates of one subject and issuer would look as if they had signed themselves.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server whose certificate `authority` has signed for this name or address.
struct Signed {
    server: Handle<()>,
    files: Files,
}

fn signed(
    test: &str,
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    expired: bool,
) -> Signed {
    let files = Files::new(test);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    if expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let certificate = params.signed_by(&key, authority).unwrap();
    let identity = Identity::Files {
        certificate: files.write("cert.pem", &certificate.pem()),
        key: files.write("key.pem", &key.serialize_pem()),
    };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let (server, _) = node(Config::server(listen, identity));
    Signed { server, files }
}

impl Signed {
    /// Why a client that looks for `host` and believes `authority` does not connect; `None` if it
    /// does.
    fn refusal(&self, host: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> Option<String> {
        let (_client, told) = node(Config::client(vec![self.target(host, authority)]));
        told.recv_timeout(PATIENCE).unwrap().err()
    }

    fn url(&self, host: &str) -> String {
        format!("moqt://{host}:{}", self.server.addresses()[0].port())
    }

    fn target(&self, host: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> Target {
        let ca = self.files.write("ca.pem", &authority.pem());
        Target::new(&self.url(host), Trust::Ca(ca)).unwrap()
    }
}

/// Whether a client that believes `authority` is connected at `second` once `first` has sent it there;
/// each of them is a name of the certificate, and where the server is looked for.
fn is_followed(test: &str, first: &str, second: (&str, &str)) -> bool {
    let authority = authority();
    let home = signed(&format!("{test}-home"), &authority, first, false);
    let (name, host) = second;
    let away = signed(&format!("{test}-away"), &authority, name, false);
    let dial = Dial { goaway_hosts: vec![host.to_owned()], ..Dial::default() };
    let config = Config::client(vec![home.target(first, &authority)]).with_dial(dial);
    let (tell, told) = mpsc::channel();
    let moves_to = Some(away.url(host));
    let _client = spawn(config, || Probe { moves_to, ..Probe::new(tell) }).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(()));
    told.recv_timeout(PATIENCE).unwrap().is_ok()
}

#[test]
fn an_authority_vouches_for_a_name() {
    let authority = authority();
    let signed = signed("name", &authority, "localhost", false);
    assert_eq!(signed.refusal("localhost", &authority), None);
}

#[test]
fn an_authority_vouches_for_an_address() {
    let authority = authority();
    let signed = signed("address", &authority, "127.0.0.1", false);
    assert_eq!(signed.refusal("127.0.0.1", &authority), None);
}

#[test]
fn another_name_or_address_is_refused() {
    let authority = authority();
    for (test, name, host) in [
        ("other-name", "relay.example", "localhost"),
        ("other-address", "127.0.0.2", "127.0.0.1"),
        ("name-only", "localhost", "127.0.0.1"),
        ("address-only", "127.0.0.1", "localhost"),
    ] {
        let reason = signed(test, &authority, name, false).refusal(host, &authority).unwrap();
        assert!(reason.contains("TLS: "), "{name} for {host}: {reason}");
    }
}

#[test]
fn an_authority_vouches_for_the_host_that_a_target_has_moved_to() {
    let (name, address) = ("localhost", "127.0.0.1");
    assert!(is_followed("to-address", name, (address, address)));
    assert!(is_followed("to-name", address, (name, name)));
    assert!(!is_followed("to-other-address", name, ("relay.example", address)));
    assert!(!is_followed("to-other-name", address, (address, name)));
}

#[test]
fn another_authority_is_refused() {
    let signed = signed("authority", &authority(), "localhost", false);
    let reason = signed.refusal("localhost", &authority()).unwrap();
    assert!(reason.contains("unknown authority"), "{reason}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = authority();
    let reason =
        signed("expired", &authority, "localhost", true).refusal("localhost", &authority).unwrap();
    assert!(reason.contains("expired"), "{reason}");
}

#[test]
fn a_key_that_does_not_fit_is_named() {
    let files = Files::new("misfit");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let key = files.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let certificate = files.write("cert.pem", &certificate.pem());
    let identity = Identity::Files { certificate, key };
    let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    let (tell, _told) = mpsc::channel();
    let error =
        spawn(Config::server(listen, identity), || Probe::new(tell)).unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("cert.pem"), "{error}");
}

#[track_caller]
fn is_refused(config: Config, why: &str) {
    let (tell, _told) = mpsc::channel();
    let error = spawn(config, || Probe::new(tell)).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    let target = Target::new("moqt://127.0.0.1:1", Trust::Insecure).unwrap();
    let mut config = Config::client(vec![target]).with_dial(Dial::default());
    config.quic.keep_alive = Duration::ZERO;
    is_refused(config, "dial.silence");
    let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    let mut config = Config::server(listen, Identity::Development);
    config.handshake.connections_max = 1 << 24;
    config.state_directory = Some("/nowhere".into());
    is_refused(config, "state directory");
}
