//! `moqtail` as a peer of a relay: `moqtail-peer URL 22`.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, sync::Arc};

use aip_interop_peers::{Case, Outcome, Relay, ensure, namespace, run};
use bytes::Bytes;
use moqtail::{
    model::{
        common::{
            location::Location,
            tuple::{Tuple, TupleField},
        },
        control::{
            control_message::{ControlMessage, ControlMessageTrait as _},
            fetch::Fetch,
            publish_namespace::PublishNamespace,
            setup::Setup,
            subscribe::Subscribe,
            subscribe_ok::SubscribeOk,
        },
        data::{
            constant::{ObjectForwardingPreference, ObjectStatus},
            object::Object,
            subgroup_header::SubgroupHeader,
        },
        parameter::{location_filter::LocationFilter, message_parameter::MessageParameter},
    },
    transport::{
        connection::TransportConnection,
        control_stream_handler::ControlStreamHandler,
        data_stream_handler::{FetchRequest, HeaderInfo, RecvDataStream, SendDataStream},
    },
};
use tokio::sync::{Mutex, RwLock};
use wtransport::quinn;

const CASES: &[Case] = &[
    ("setup", |relay| Box::pin(setup(relay))),
    ("publish-namespace", |relay| Box::pin(publish_namespace(relay))),
    ("subscribe-error", |relay| Box::pin(subscribe_error(relay))),
    ("subscribe-objects", |relay| Box::pin(subscribe_objects(relay))),
    ("fetch", |relay| Box::pin(fetch(relay))),
];

const ALIAS: u64 = 7;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    match Relay::of_arguments() {
        Ok(relay) if relay.draft == 22 => {
            if run(&relay, CASES).await {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Ok(_) => {
            eprintln!("moqtail-peer: moqtail 0.17 speaks draft 22 alone");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("moqtail-peer: {error}");
            ExitCode::from(2)
        }
    }
}

/// A session, as far as this library has one.
struct Session {
    connection: TransportConnection,
    _control: ControlStreamHandler,
    next_request: u64,
}

async fn connect(relay: &Relay) -> Outcome<Session> {
    let connection = if relay.is_webtransport() {
        let config = wtransport::ClientConfig::builder()
            .with_bind_default()
            .with_no_cert_validation()
            .build();
        let options = wtransport::endpoint::ConnectOptions::builder(&relay.url)
            .add_header("wt-available-protocols", "\"moqt-22\"")
            .build();
        let endpoint = wtransport::Endpoint::client(config)?;
        TransportConnection::WebTransport(endpoint.connect(options).await?)
    } else {
        TransportConnection::Quic(quic(relay).await?)
    };
    let mut send = connection.open_uni().await?;
    send.write_all(&Setup::new(Vec::new()).serialize()?).await?;
    let recv = connection.accept_uni().await?;
    let mut control = ControlStreamHandler::new(send, recv);
    control.read_setup().await.map_err(|code| format!("no SETUP: {code:?}"))?;
    Ok(Session { connection, _control: control, next_request: 0 })
}

async fn quic(relay: &Relay) -> Outcome<quinn::Connection> {
    let mut tls = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"moqt-22".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    Ok(endpoint.connect(relay.address().parse()?, "localhost")?.await?)
}

/// Believes any certificate: the relay under test is on this machine.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Session {
    fn request_id(&mut self) -> u64 {
        self.next_request += 2;
        self.next_request - 2
    }

    /// Sends a request on a stream of its own.
    async fn ask(&self, message: ControlMessage) -> Outcome<ControlStreamHandler> {
        let (send, recv) = self.connection.open_bi().await?;
        let mut stream = ControlStreamHandler::new(send, recv);
        say(&mut stream, message).await?;
        Ok(stream)
    }

    /// The next request of the relay's.
    async fn asked(&self) -> Outcome<(ControlStreamHandler, ControlMessage)> {
        let (send, recv) = self.connection.accept_bi().await?;
        let mut stream = ControlStreamHandler::new(send, recv);
        let message = hear(&mut stream).await?;
        Ok((stream, message))
    }

    async fn announce(&mut self, namespace: &Tuple) -> Outcome<ControlStreamHandler> {
        let id = self.request_id();
        let announce = PublishNamespace::new(id, namespace.clone(), &[]);
        let mut stream = self.ask(ControlMessage::PublishNamespace(Box::new(announce))).await?;
        match hear(&mut stream).await? {
            ControlMessage::RequestOk(_) => Ok(stream),
            other => Err(format!("REQUEST_OK wanted, got {other:?}").into()),
        }
    }

    async fn subscribe(&mut self, namespace: &Tuple) -> Outcome<ControlStreamHandler> {
        let subscribe = Subscribe::new(self.request_id(), namespace.clone(), name(), Vec::new());
        self.ask(ControlMessage::Subscribe(Box::new(subscribe))).await
    }
}

async fn say(stream: &mut ControlStreamHandler, message: ControlMessage) -> Outcome {
    stream.send(&message).await.map_err(|code| format!("not sent: {code:?}").into())
}

async fn hear(stream: &mut ControlStreamHandler) -> Outcome<ControlMessage> {
    stream.next_message().await.map_err(|code| format!("no message: {code:?}").into())
}

fn name() -> TupleField {
    TupleField::from_utf8("t")
}

fn tuple() -> Tuple {
    let mut tuple = Tuple::new();
    for field in namespace() {
        tuple.add(TupleField::new(Bytes::from(field)));
    }
    tuple
}

async fn setup(relay: Relay) -> Outcome {
    let session = connect(&relay).await?;
    session.connection.close(0, b"done");
    Ok(())
}

async fn publish_namespace(relay: Relay) -> Outcome {
    connect(&relay).await?.announce(&tuple()).await.map(drop)
}

async fn subscribe_error(relay: Relay) -> Outcome {
    let mut session = connect(&relay).await?;
    let mut stream = session.subscribe(&tuple()).await?;
    match hear(&mut stream).await? {
        ControlMessage::RequestError(_) => Ok(()),
        other => Err(format!("REQUEST_ERROR wanted, got {other:?}").into()),
    }
}

/// A publisher and a subscriber of one track; streams stay open while this lives.
struct Live {
    _publisher: Session,
    subscriber: Session,
    namespace: Tuple,
    _streams: [ControlStreamHandler; 3],
}

/// Three groups of three objects, through the relay.
async fn live(relay: &Relay) -> Outcome<Live> {
    let namespace = tuple();
    let mut publisher = connect(relay).await?;
    let announced = publisher.announce(&namespace).await?;
    let mut subscriber = connect(relay).await?;
    let mut subscription = subscriber.subscribe(&namespace).await?;
    let (mut asked, message) = publisher.asked().await?;
    ensure(matches!(message, ControlMessage::Subscribe(_)), "SUBSCRIBE", message)?;
    let ok = SubscribeOk::new(ALIAS, Vec::new(), Vec::new());
    say(&mut asked, ControlMessage::SubscribeOk(Box::new(ok))).await?;
    let answer = hear(&mut subscription).await?;
    ensure(matches!(answer, ControlMessage::SubscribeOk(_)), "SUBSCRIBE_OK", answer)?;
    for group in 0..3 {
        let stream = Arc::new(Mutex::new(publisher.connection.open_uni().await?));
        let header =
            SubgroupHeader::new_with_explicit_id(ALIAS, group, 0, Some(128), false, false, true);
        let mut stream = SendDataStream::new(stream, HeaderInfo::Subgroup { header }).await?;
        for object in 0..3u64 {
            let previous = object.checked_sub(1);
            stream.send_object(&object_of(group, object), previous).await?;
        }
        stream.finish().await?;
    }
    let mut groups = Vec::new();
    for _ in 0..3 {
        let stream = subscriber.connection.accept_uni().await?;
        let stream = RecvDataStream::new(stream, Arc::new(RwLock::new(BTreeMap::new())));
        let mut objects = 0;
        while let (_, Some(object)) = stream.next_object().await {
            let wanted = format!("{}/{objects}", object.location.group);
            ensure(object.payload.as_deref() == Some(wanted.as_bytes()), &wanted, &object)?;
            if objects == 0 {
                groups.push(object.location.group);
            }
            objects += 1;
        }
        ensure(objects == 3 && !stream.was_aborted(), "three objects, then FIN", objects)?;
    }
    groups.sort_unstable();
    ensure(groups == [0, 1, 2], "groups 0, 1, 2", groups)?;
    let streams = [announced, asked, subscription];
    Ok(Live { _publisher: publisher, subscriber, namespace, _streams: streams })
}

fn object_of(group: u64, object: u64) -> Object {
    Object {
        track_alias: ALIAS,
        location: Location { group, object },
        publisher_priority: 128,
        forwarding_preference: ObjectForwardingPreference::Subgroup,
        subgroup_id: Some(0),
        status: ObjectStatus::Normal,
        properties: None,
        payload: Some(format!("{group}/{object}").into()),
    }
}

async fn subscribe_objects(relay: Relay) -> Outcome {
    live(&relay).await.map(drop)
}

async fn fetch(relay: Relay) -> Outcome {
    let mut live = live(&relay).await?;
    let range = LocationFilter::AbsoluteRange {
        start: Location { group: 0, object: 1 },
        end: Location { group: 1, object: 1 },
    };
    let parameters = vec![MessageParameter::new_location_filter(range)];
    let id = live.subscriber.request_id();
    let fetch = Fetch::new(id, live.namespace.clone(), name(), parameters);
    let mut stream = live.subscriber.ask(ControlMessage::Fetch(Box::new(fetch.clone()))).await?;
    let answer = hear(&mut stream).await?;
    ensure(matches!(answer, ControlMessage::FetchOk(_)), "FETCH_OK", answer)?;
    let pending = BTreeMap::from([(id, FetchRequest::new(id, 0, fetch, ALIAS))]);
    let stream = live.subscriber.connection.accept_uni().await?;
    let stream = RecvDataStream::new(stream, Arc::new(RwLock::new(pending)));
    for (group, object) in [(0, 1), (0, 2), (1, 0), (1, 1)] {
        let (_, came) = stream.next_object().await;
        let wanted = format!("{group}/{object}");
        let same = came.as_ref().is_some_and(|it| it.payload.as_deref() == Some(wanted.as_bytes()));
        ensure(same, &wanted, came)?;
    }
    Ok(())
}
