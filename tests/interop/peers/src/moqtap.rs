//! `moqtap-client` as a peer of a relay: `moqtap-peer URL DRAFT`, drafts 18 to 22.

use std::process::ExitCode;

use aip_interop_peers::{Case, Outcome, Relay, ensure, namespace, run};
use moqtap_client::dispatch::{
    AnyArrival, AnyClientConfig, AnyConnection, AnyInboundRequest, AnyRequest, AnyTransportType,
    FetchEnd, FetchRange,
};
use moqtap_codec::{
    dispatch::AnyControlMessage,
    types::{FilterType, Forward, GroupOrder, TrackNamespace},
    varint::VarInt,
    version::DraftVersion,
};

const CASES: &[Case] = &[
    ("setup", |relay| Box::pin(setup(relay))),
    ("publish-namespace", |relay| Box::pin(publish_namespace(relay))),
    ("subscribe-error", |relay| Box::pin(subscribe_error(relay))),
    ("subscribe-objects", |relay| Box::pin(subscribe_objects(relay))),
    ("fetch", |relay| Box::pin(fetch(relay))),
    ("track-status", |relay| Box::pin(track_status(relay))),
    ("subscribe-namespace", |relay| Box::pin(subscribe_namespace(relay))),
    ("publish", |relay| Box::pin(publish(relay))),
    ("subscribe-tracks", |relay| Box::pin(subscribe_tracks(relay))),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    match Relay::of_arguments() {
        Ok(relay) => {
            if run(&relay, CASES).await {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("moqtap-peer: {error}");
            ExitCode::from(2)
        }
    }
}

async fn connect(relay: &Relay) -> Outcome<AnyConnection> {
    let draft = match relay.draft {
        18 => DraftVersion::Draft18,
        19 => DraftVersion::Draft19,
        20 => DraftVersion::Draft20,
        21 => DraftVersion::Draft21,
        22 => DraftVersion::Draft22,
        other => return Err(format!("draft {other} is not tried").into()),
    };
    let transport = if relay.is_webtransport() {
        AnyTransportType::WebTransport { url: relay.url.clone() }
    } else {
        AnyTransportType::Quic
    };
    let config = AnyClientConfig {
        draft,
        additional_versions: Vec::new(),
        transport,
        skip_cert_verification: true,
        ca_certs: Vec::new(),
        setup_parameters: Vec::new(),
    };
    Ok(AnyConnection::connect(relay.address(), config).await?)
}

/// The next answer on a request's stream.
async fn answer(
    connection: &mut AnyConnection,
    request: &mut AnyRequest,
) -> Outcome<AnyControlMessage> {
    let message = connection.recv_response(request).await?;
    message.ok_or_else(|| "the stream ended without an answer".into())
}

/// Waits for an answer of this type.
async fn answer_is(
    connection: &mut AnyConnection,
    request: &mut AnyRequest,
    wanted: &str,
) -> Outcome<AnyControlMessage> {
    let message = answer(connection, request).await?;
    let name = message.message_type_name().to_lowercase().replace('_', "");
    ensure(name == wanted.to_lowercase().replace('_', ""), wanted, &message)?;
    Ok(message)
}

fn track(namespace: &[Vec<u8>]) -> (TrackNamespace, Vec<u8>) {
    (TrackNamespace(namespace.to_vec()), b"t".to_vec())
}

async fn setup(relay: Relay) -> Outcome {
    let connection = connect(&relay).await?;
    connection.close(0, b"done");
    Ok(())
}

async fn publish_namespace(relay: Relay) -> Outcome {
    let mut connection = connect(&relay).await?;
    let mut request = connection.publish_namespace(TrackNamespace(namespace())).await?;
    answer_is(&mut connection, &mut request, "REQUEST_OK").await.map(drop)
}

async fn subscribe_error(relay: Relay) -> Outcome {
    let mut connection = connect(&relay).await?;
    let (namespace, name) = track(&namespace());
    let mut request = subscribe(&mut connection, namespace, name).await?;
    answer_is(&mut connection, &mut request, "REQUEST_ERROR").await.map(drop)
}

async fn subscribe(
    connection: &mut AnyConnection,
    namespace: TrackNamespace,
    name: Vec<u8>,
) -> Outcome<AnyRequest> {
    let (order, filter) = (GroupOrder::Ascending, FilterType::LargestObject);
    Ok(connection.subscribe(namespace, name, 128, order, filter).await?)
}

/// A publisher and a subscriber of one track, through the relay.
struct Live {
    publisher: AnyConnection,
    subscriber: AnyConnection,
    namespace: Vec<Vec<u8>>,
    /// Requests, which end when they are dropped.
    _requests: (AnyRequest, AnyInboundRequest, AnyRequest),
}

const ALIAS: u64 = 7;

async fn live(relay: &Relay) -> Outcome<Live> {
    let namespace = namespace();
    let mut publisher = connect(relay).await?;
    let mut announced = publisher.publish_namespace(TrackNamespace(namespace.clone())).await?;
    answer_is(&mut publisher, &mut announced, "REQUEST_OK").await?;
    let mut subscriber = connect(relay).await?;
    let (prefix, name) = track(&namespace);
    let mut subscription = subscribe(&mut subscriber, prefix, name).await?;
    let mut asked = match publisher.recv_inbound().await? {
        AnyArrival::Subscribe { request, .. } => request,
        AnyArrival::Other(other) => return Err(format!("SUBSCRIBE wanted, got {other:?}").into()),
    };
    publisher.accept_subscribe(&mut asked, VarInt::from_u64(ALIAS)?).await?;
    answer_is(&mut subscriber, &mut subscription, "SUBSCRIBE_OK").await?;
    Ok(Live { publisher, subscriber, namespace, _requests: (announced, asked, subscription) })
}

/// Three groups of three objects, sent and received.
async fn objects(live: &Live) -> Outcome {
    for group in 0..3 {
        let mut stream = live.publisher.open_subgroup(ALIAS, group, 0, 128).await?;
        for object in 0..3 {
            stream.write_object(object, format!("{group}/{object}").as_bytes()).await?;
        }
        stream.finish().await?;
    }
    let mut groups = Vec::new();
    for _ in 0..3 {
        let (header, mut stream) = live.subscriber.accept_subgroup().await?;
        let group = header.group_id();
        for object in 0..3 {
            let came = stream.read_object().await?;
            let wanted = format!("{group}/{object}");
            let same = came.object_id == object && came.payload == wanted.as_bytes();
            ensure(same, &wanted, came)?;
        }
        groups.push(group);
    }
    groups.sort_unstable();
    ensure(groups == [0, 1, 2], "groups 0, 1, 2", groups)
}

async fn subscribe_objects(relay: Relay) -> Outcome {
    objects(&live(&relay).await?).await
}

async fn fetch(relay: Relay) -> Outcome {
    let mut live = live(&relay).await?;
    objects(&live).await?;
    let (namespace, name) = track(&live.namespace);
    // Within a group: that one has ended, these streams cannot say.
    let range =
        FetchRange { start_group: 1, start_object: 1, end_group: 1, end: FetchEnd::Object(2) };
    let mut request = live.subscriber.fetch(namespace, name, range).await?;
    answer_is(&mut live.subscriber, &mut request, "FETCH_OK").await?;
    let (_, mut stream) = live.subscriber.accept_fetch(GroupOrder::Ascending).await?;
    for (group, object) in [(1, 1), (1, 2)] {
        let came = stream.read_object().await?;
        let wanted = format!("{group}/{object}");
        let same =
            (came.group_id, came.object_id) == (group, object) && came.payload == wanted.as_bytes();
        ensure(same, &wanted, came)?;
    }
    Ok(())
}

async fn track_status(relay: Relay) -> Outcome {
    let mut live = live(&relay).await?;
    objects(&live).await?;
    let (namespace, name) = track(&live.namespace);
    let mut request = live.subscriber.track_status(namespace, name).await?;
    answer_is(&mut live.subscriber, &mut request, "REQUEST_OK").await.map(drop)
}

async fn subscribe_namespace(relay: Relay) -> Outcome {
    let namespace = namespace();
    let mut watcher = connect(&relay).await?;
    let prefix = TrackNamespace(namespace.clone());
    let mut watch = watcher.subscribe_namespace(prefix).await?;
    answer_is(&mut watcher, &mut watch, "REQUEST_OK").await?;
    let mut publisher = connect(&relay).await?;
    let below = [&namespace[..], &[b"below".to_vec()]].concat();
    let mut announced = publisher.publish_namespace(TrackNamespace(below)).await?;
    answer_is(&mut publisher, &mut announced, "REQUEST_OK").await?;
    answer_is(&mut watcher, &mut watch, "NAMESPACE").await?;
    announced.cancel(1)?;
    answer_is(&mut watcher, &mut watch, "NAMESPACE_DONE").await.map(drop)
}

async fn publish(relay: Relay) -> Outcome {
    let (namespace, name) = track(&namespace());
    let mut publisher = connect(&relay).await?;
    let alias = VarInt::from_u64(ALIAS)?;
    let (at, called) = (namespace.clone(), name.clone());
    let mut offer = publisher.publish(at, called, alias, Forward::Forward).await?;
    answer_is(&mut publisher, &mut offer, "REQUEST_OK").await?;
    let mut subscriber = connect(&relay).await?;
    let mut subscription = subscribe(&mut subscriber, namespace, name).await?;
    answer_is(&mut subscriber, &mut subscription, "SUBSCRIBE_OK").await?;
    let mut stream = publisher.open_subgroup(ALIAS, 0, 0, 128).await?;
    stream.write_object(0, b"published").await?;
    stream.finish().await?;
    let (_, mut stream) = subscriber.accept_subgroup().await?;
    let came = stream.read_object().await?;
    ensure(came.payload == b"published", "the object", came)?;
    let (code, count) = (VarInt::from_u64(2)?, VarInt::from_u64(1)?);
    publisher.publish_done(&mut offer, code, count, b"over".to_vec()).await?;
    answer_is(&mut subscriber, &mut subscription, "PUBLISH_DONE").await.map(drop)
}

async fn subscribe_tracks(relay: Relay) -> Outcome {
    let namespace = namespace();
    let mut watcher = connect(&relay).await?;
    let prefix = TrackNamespace(namespace.clone());
    let mut watch = watcher.subscribe_tracks(prefix, Forward::Forward).await?;
    answer_is(&mut watcher, &mut watch, "REQUEST_OK").await?;
    let mut publisher = connect(&relay).await?;
    let (at, name) = track(&namespace);
    let alias = VarInt::from_u64(ALIAS)?;
    let mut offer = publisher.publish(at, name, alias, Forward::Forward).await?;
    answer_is(&mut publisher, &mut offer, "REQUEST_OK").await?;
    match watcher.recv_inbound().await? {
        AnyArrival::Other(message) => {
            ensure(message.message_type_name().eq_ignore_ascii_case("publish"), "PUBLISH", message)
        }
        AnyArrival::Subscribe { message, .. } => {
            Err(format!("PUBLISH wanted, got {message:?}").into())
        }
    }
}
