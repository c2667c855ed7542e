use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::{
    message::{Id, Kind, code},
    revision::Revision,
};

/// A server in shell: `$1` is what it does with each line after the handshake.
fn server(body: &str) -> Options {
    let script = format!(
        r#"
        while IFS= read -r line; do
            case "$line" in
            *'"server/discover"'*) printf '%s\n' '{{"jsonrpc":"2.0","id":1,"error":{{"code":-32601,"message":"?"}}}}';;
            *'"initialize"'*) printf '%s\n' '{{"jsonrpc":"2.0","id":2,"result":{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{{"name":"s","version":"1"}}}}}}';;
            *notifications/initialized*) ;;
            *) id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
               {body} ;;
            esac
        done"#
    );
    let mut options = Options::new(vec!["sh".to_owned(), "-c".to_owned(), script]);
    options.stop_timeout = Duration::from_millis(300);
    options
}

async fn up(news: &mut mpsc::Receiver<News>) {
    loop {
        match news.recv().await.unwrap() {
            News::Up(description) => {
                assert_eq!(description.revision, Revision::V2025_11_25);
                return;
            }
            News::Down(_) | News::Message(_) => {}
        }
    }
}

async fn ask(backend: &Stdio, id: &str) -> Message {
    let request = Message::request(Id::from_raw(id).unwrap(), "tools/call", r#"{"name":"t"}"#);
    let exchange = backend.request(request, Asker::Agent).await;
    tokio::time::timeout(Duration::from_secs(10), exchange.answer()).await.unwrap().unwrap()
}

#[tokio::test]
async fn answers_come_back_under_the_askers_id() {
    let (backend, mut news) =
        Stdio::start(server(r#"printf '{"jsonrpc":"2.0","id":%s,"result":{"a":1}}\n' "$id""#));
    up(&mut news).await;
    let answer = ask(&backend, "\"mine\"").await;
    assert_eq!(answer.text(), r#"{"jsonrpc":"2.0","id":"mine","result":{"a":1}}"#);
    backend.shutdown().await;
}

#[tokio::test]
async fn a_crash_is_an_error_at_once_and_the_next_run_answers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let body = format!(
        r#"if [ -s {0} ]; then printf '{{"jsonrpc":"2.0","id":%s,"result":{{}}}}\n' "$id"; else echo x > {0}; kill -9 $$; fi"#,
        file.path().display()
    );
    let (backend, mut news) = Stdio::start(server(&body));
    up(&mut news).await;
    let began = Instant::now();
    let answer = ask(&backend, "7").await;
    assert_eq!((answer.kind(), answer.id().unwrap().as_raw()), (Kind::Error, "7"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    up(&mut news).await;
    assert_eq!(ask(&backend, "8").await.kind(), Kind::Result);
    backend.shutdown().await;
}

#[tokio::test]
async fn an_answer_too_long_is_an_error_and_the_process_stays() {
    let body = r#"case "$line" in *'"big"'*) printf '{"result":{"x":"'; head -c 300000 /dev/zero | tr '\0' x; printf '"},"jsonrpc":"2.0","id":%s}\n' "$id";; *) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";; esac"#;
    let mut options = server(body);
    options.limits.length_max = 100_000;
    let (backend, mut news) = Stdio::start(options);
    up(&mut news).await;
    let big = Message::request(Id::from_number(1), "big", "");
    let other = Message::request(Id::from_number(1), "tools/call", "");
    let (big, other) = (
        backend.request(big, Asker::Agent).await.answer(),
        backend.request(other, Asker::Agent).await.answer(),
    );
    let big = big.await.unwrap();
    assert_eq!(big.kind(), Kind::Error);
    assert!(big.body().contains("longer than 100000 bytes"), "{}", big.body());
    assert_eq!(other.await.unwrap().kind(), Kind::Result);
    backend.shutdown().await;
}

#[tokio::test]
async fn dropping_an_exchange_cancels_at_the_backend() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let body = format!(r#"printf '%s\n' "$line" >> {}"#, file.path().display());
    let (backend, mut news) = Stdio::start(server(&body));
    up(&mut news).await;
    let request = Message::request(Id::from_number(0), "tools/call", "{}");
    drop(backend.request(request, Asker::Agent).await);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = std::fs::read_to_string(file.path()).unwrap();
        if seen.contains(r#""method":"notifications/cancelled","params":{"requestId":3,"#) {
            break;
        }
        assert!(Instant::now() < deadline, "{seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    backend.shutdown().await;
}

#[tokio::test]
async fn a_command_that_cannot_run_is_said() {
    let (backend, mut news) = Stdio::start(Options::new(vec!["/no/such/program".to_owned()]));
    let News::Down(reason) = news.recv().await.unwrap() else { panic!("it is not down") };
    assert!(reason.contains("/no/such/program"), "{reason}");
    let answer = ask(&backend, "1").await;
    assert!(answer.body().contains(&code::INTERNAL_ERROR.to_string()));
    backend.shutdown().await;
}

#[tokio::test]
async fn nothing_is_left_running() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let body = format!("sleep 1000 & echo $! > {}; wait", file.path().display());
    let (backend, mut news) = Stdio::start(server(&body));
    up(&mut news).await;
    let request = Message::request(Id::from_number(0), "tools/call", "{}");
    let _exchange = backend.request(request, Asker::Agent).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let id = loop {
        let text = std::fs::read_to_string(file.path()).unwrap();
        if text.ends_with('\n') {
            break text.trim().to_owned();
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    backend.shutdown().await;
    // Its end was ordered; nobody is there any more who could wait for it.
    loop {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        if status.is_empty() || status.contains("State:\tZ") {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_slow_to_begin_may_still_be_without_sessions() {
    // Answers the probe late, and takes it for its client's choice.
    let script = r#"
        read -r line; sleep 0.4
        printf '%s\n' '{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}}'
        while IFS= read -r line; do
            case "$line" in
            *'"server/discover"'*) printf '%s\n' '{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}}';;
            *'"initialize"'*) printf '%s\n' '{"jsonrpc":"2.0","id":2,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}';;
            esac
        done"#;
    let mut options = Options::new(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]);
    options.probe_timeout = Duration::from_millis(50);
    let (backend, mut news) = Stdio::start(options);
    match news.recv().await.unwrap() {
        News::Up(description) => assert!(description.revision.is_modern()),
        other => panic!("{other:?}"),
    }
    backend.shutdown().await;
}

#[tokio::test]
async fn a_server_that_never_answers_holds_up_no_end() {
    let mut options = Options::new(vec!["sleep".to_owned(), "1000".to_owned()]);
    // Were they waited for, this test would not end in its time.
    (options.probe_timeout, options.start_timeout) =
        (Duration::from_secs(3_600), Duration::from_secs(3_600));
    options.stop_timeout = Duration::from_millis(300);
    let (backend, _news) = Stdio::start(options);
    let asked = Message::request(Id::from_number(1), "ping", "");
    let waits = tokio::spawn({
        let backend = backend.clone();
        async move { backend.request(asked, Asker::Edge).await.answer().await }
    });
    backend.shutdown().await;
    // What was asked meanwhile has no answer, and knows it.
    tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap().unwrap();
}
