//! Several servers behind one endpoint.

use std::{process::Stdio, sync::Arc, time::Duration};

use aip_gateway::{
    backend::{Backend, News},
    connect,
    federation::{Federation, prefix::Prefix},
    link::Link,
    name::ServerName,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};

use crate::tier::{
    Agent, Listening, PATIENCE, Relay, Serving, behind_with, library, modern_shell, program, shell,
};

/// What a request without a session says of its client.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

async fn serve(relay: &Relay, name: &str, backend: (Backend, mpsc::Receiver<News>)) -> Serving {
    let name = ServerName::new("localhost", name).unwrap();
    Serving::start_with(relay, backend, |options| options.name = name).await
}

/// An edge that offers these servers by their names, waiting for each no longer than `wait`.
async fn federation(link: Link, names: &[&str], wait: Duration) -> Arc<Federation> {
    let servers = names.iter().map(|name| {
        let mut options = connect::Options::new(ServerName::new("localhost", name).unwrap());
        options.wait = wait;
        (Prefix::new(name).unwrap(), options)
    });
    Federation::start(link, servers.collect()).await.unwrap()
}

/// The names, or whatever `member` is, of what a list holds.
fn names<'a>(list: &'a Value, key: &str, member: &str) -> Vec<&'a str> {
    list[key].as_array().unwrap().iter().map(|item| item[member].as_str().unwrap()).collect()
}

/// Answers a list of tools with one tool, and any call with a word.
fn says(word: &str) -> String {
    format!(
        r#"case "$line" in
        *'"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","tools":[{{"name":"say","inputSchema":{{"type":"object"}}}}],"ttlMs":0,"cacheScope":"public"}}}}\n' "$id";;
        *) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","word":"{word}"}}}}\n' "$id";; esac"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_session_uses_two_libraries_as_one() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(here.path().join("a.md"), "one here\n").unwrap();
    std::fs::write(there.path().join("a.md"), "one there\n").unwrap();
    let relay = Relay::start();
    // One with sessions, one without.
    let first = serve(&relay, "here", library(here.path(), Some(false))).await;
    let second = serve(&relay, "there", library(there.path(), Some(true))).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::new(federation(link, &["here", "there"], PATIENCE).await).await;
    let begun: Value = serde_json::from_str(&agent.initialize().await).unwrap();
    let begun = &begun["result"];
    assert_eq!(begun["protocolVersion"], "2025-11-25");
    assert_eq!(begun["capabilities"]["resources"]["listChanged"], true);
    assert!(begun["instructions"].as_str().unwrap().contains("there_"), "{begun}");
    let tools = agent.ask("tools/list", json!({})).await.unwrap();
    let named = names(&tools, "tools", "name");
    assert!(named.contains(&"here_search") && named.contains(&"there_search"), "{named:?}");
    let resources = agent.ask("resources/list", json!({})).await.unwrap();
    let uris = ["here+library:///a.md", "there+library:///a.md"];
    assert_eq!(names(&resources, "resources", "uri"), uris);
    for (place, uri) in ["here", "there"].into_iter().zip(uris) {
        let read = agent.ask("resources/read", json!({"uri": uri})).await.unwrap();
        assert_eq!(read["contents"][0]["uri"], uri);
        assert_eq!(read["contents"][0]["text"], format!("one {place}\n"));
        let call = json!({"name": format!("{place}_search"), "arguments": {"words": "one"}});
        let found = agent.ask("tools/call", call).await.unwrap();
        assert_eq!(found["content"][0]["text"], format!("a.md:1: one {place}"));
        let prompt = json!({"name": format!("{place}_summarize"), "arguments": {"path": "a.md"}});
        let prompt = agent.ask("prompts/get", prompt).await.unwrap();
        let text = prompt["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(text.ends_with(&format!("one {place}\n")), "{text}");
        agent.ask("resources/subscribe", json!({"uri": uri})).await.unwrap();
    }
    std::fs::write(there.path().join("a.md"), "two there\n").unwrap();
    let updated = agent.notified("notifications/resources/updated").await;
    assert_eq!(updated["params"]["uri"], uris[1]);
    for wrong in [json!({"name": "search"}), json!({"name": "where_search"}), json!({})] {
        let error = agent.ask("tools/call", wrong).await.unwrap_err();
        assert_eq!(error["code"], -32602, "{error}");
        assert!(error["message"].as_str().unwrap().contains("here, there"), "{error}");
    }
    let error = agent.ask("tasks/list", json!({})).await.unwrap_err();
    assert_eq!(error["code"], -32601, "{error}");
    agent.close().await;
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_session_uses_two_libraries_as_one() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(here.path().join("a.md"), "one here\n").unwrap();
    std::fs::write(there.path().join("a.md"), "one there\n").unwrap();
    let relay = Relay::start();
    let first = serve(&relay, "here", library(here.path(), Some(false))).await;
    let second = serve(&relay, "there", library(there.path(), Some(true))).await;
    let (link, _served, _worker) = relay.link();
    let federation = federation(link, &["here", "there"], PATIENCE).await;
    let mut agent = Agent::new(Arc::clone(&federation)).await;
    let discovered = agent.ask("server/discover", json!({"_meta": meta()})).await.unwrap();
    assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
    let list = agent.ask("tools/list", json!({"_meta": meta()})).await.unwrap();
    assert_eq!(list["resultType"], "complete");
    assert!(list["ttlMs"].is_number(), "{list}");
    let uris = ["here+library:///a.md", "there+library:///a.md"];
    let listen = json!({"jsonrpc": "2.0", "id": "mine", "method": "subscriptions/listen", "params": {
        "_meta": meta(),
        "notifications": {"resourcesListChanged": true, "resourceSubscriptions": uris},
    }});
    agent.send(&listen.to_string()).await;
    let told = agent.notified("notifications/subscriptions/acknowledged").await;
    let accepted = &told["params"]["notifications"];
    assert_eq!(accepted["resourcesListChanged"], true);
    let mut followed: Vec<_> = accepted["resourceSubscriptions"].as_array().unwrap().clone();
    followed.sort_by_key(ToString::to_string);
    assert_eq!(followed, uris);
    for (folder, uri) in [(&here, uris[0]), (&there, uris[1])] {
        std::fs::write(folder.path().join("a.md"), "two\n").unwrap();
        let updated = agent.notified("notifications/resources/updated").await;
        assert_eq!(updated["params"]["uri"], uri);
        let of = &updated["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
        assert_eq!(of, "mine");
    }
    // By HTTP, where headers say the same names.
    let listening = Listening::start(federation).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "there_search", "arguments": {"words": "two"}, "_meta": meta(),
    }});
    let response = reqwest::Client::new()
        .post(&listening.url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "there_search")
        .body(call.to_string())
        .send()
        .await
        .unwrap();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "a.md:1: two", "{answer}");
    agent.close().await;
    drop(listening);
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_takes_no_other_down() {
    let relay = Relay::start();
    let first = serve(&relay, "one", modern_shell(r#"{"tools":{}}"#, &says("a"))).await;
    let (link, _served, _worker) = relay.link();
    let offered = federation(link, &["one", "two"], Duration::from_millis(300)).await;
    let mut agent = Agent::begun(offered).await;
    let list = agent.ask("tools/list", json!({})).await.unwrap();
    assert_eq!(names(&list, "tools", "name"), ["one_say"]);
    let told = list["_meta"]["aip/unavailable"]["two"].as_str().unwrap();
    assert!(told.contains("not published"), "{told}");
    let error = agent.ask("tools/call", json!({"name": "two_say"})).await.unwrap_err();
    let reason = error["message"].as_str().unwrap();
    assert!(reason.contains("`two` is not there"), "{error}");
    assert_eq!(error["data"]["code"], "UNAVAILABLE");
    // It comes.
    let second = serve(&relay, "two", shell(r#"{"tools":{}}"#, &says("b"))).await;
    agent.notified("notifications/tools/list_changed").await;
    let list = agent.ask("tools/list", json!({})).await.unwrap();
    assert_eq!(names(&list, "tools", "name"), ["one_say", "two_say"]);
    assert!(list.get("_meta").is_none(), "{list}");
    for (tool, word) in [("one_say", "a"), ("two_say", "b")] {
        let said = agent.ask("tools/call", json!({"name": tool})).await.unwrap();
        assert_eq!(said["word"], word);
    }
    // It goes.
    agent.heard.clear();
    second.end().await;
    agent.notified("notifications/tools/list_changed").await;
    let list = agent.ask("tools/list", json!({})).await.unwrap();
    assert_eq!(names(&list, "tools", "name"), ["one_say"]);
    assert!(list["_meta"]["aip/unavailable"]["two"].is_string(), "{list}");
    assert_eq!(agent.ask("tools/call", json!({"name": "one_say"})).await.unwrap()["word"], "a");
    agent.close().await;
    first.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_at_all_is_an_error() {
    let relay = Relay::start();
    let (link, _served, _worker) = relay.link();
    let mut options = connect::Options::new(ServerName::new("localhost", "none").unwrap());
    options.wait = Duration::from_millis(300);
    let servers = vec![(Prefix::new("none").unwrap(), options)];
    let error = Federation::start(link.clone(), servers).await.unwrap_err();
    assert!(error.to_string().contains("`localhost/none` is not published"), "{error}");
    assert!(Federation::start(link, Vec::new()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_two_servers_are_turned_together() {
    // Pages of two tools: `pages` of them.
    let paged = |pages: u32| {
        format!(
            r#"page=1; case "$line" in *'"cursor":"p'*) page=${{line#*\"cursor\":\"p}}; page=${{page%%\"*}};; *'"cursor"'*)
            printf '{{"jsonrpc":"2.0","id":%s,"error":{{"code":-32602,"message":"which page?"}}}}\n' "$id"; continue;; esac
            next=; if [ "$page" -lt {pages} ]; then next=",\"nextCursor\":\"p$((page+1))\""; fi
            printf '{{"jsonrpc":"2.0","id":%s,"result":{{"tools":[{{"name":"t%s-1"}},{{"name":"t%s-2"}}]%s}}}}\n' "$id" "$page" "$page" "$next""#
        )
    };
    let relay = Relay::start();
    let first = serve(&relay, "a", shell(r#"{"tools":{}}"#, &paged(3))).await;
    let second = serve(&relay, "b", shell(r#"{"tools":{}}"#, &paged(2))).await;
    let third = serve(&relay, "c", shell(r#"{"prompts":{}}"#, &paged(9))).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(federation(link, &["a", "b", "c"], PATIENCE).await).await;
    let (mut cursor, mut pages) = (json!({}), Vec::new());
    loop {
        let page = agent.ask("tools/list", cursor).await.unwrap();
        pages.push(names(&page, "tools", "name").join(" "));
        let Some(next) = page.get("nextCursor") else { break };
        cursor = json!({"cursor": next});
    }
    assert_eq!(
        pages,
        ["a_t1-1 a_t1-2 b_t1-1 b_t1-2", "a_t2-1 a_t2-2 b_t2-1 b_t2-2", "a_t3-1 a_t3-2"]
    );
    let error = agent.ask("tools/list", json!({"cursor": "none of ours"})).await.unwrap_err();
    assert_eq!(error["code"], -32602);
    agent.close().await;
    for serving in [first, second, third] {
        serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_two_servers_are_answered_to_each() {
    let asks = r#"case "$line" in
        *'"tools/call"'*) call=$id; printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"sure?"}}\n';;
        *'"id":"q"'*) word=${line#*\"word\":\"}; word=${word%%\"*}
            printf '{"jsonrpc":"2.0","id":%s,"result":{"word":"%s"}}\n' "$call" "$word";;
        *) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";;
        esac"#;
    let relay = Relay::start();
    let first = serve(&relay, "a", shell(r#"{"tools":{}}"#, asks)).await;
    let second = serve(&relay, "b", shell(r#"{"tools":{}}"#, asks)).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(federation(link, &["a", "b"], PATIENCE).await).await;
    let mut questions = Vec::new();
    for server in ["a", "b"] {
        let call = json!({"jsonrpc": "2.0", "id": server, "method": "tools/call", "params": {
            "name": format!("{server}_t"),
        }});
        agent.send(&call.to_string()).await;
        questions.push((server, agent.notified("elicitation/create").await["id"].clone()));
    }
    assert_ne!(questions[0].1, questions[1].1);
    // The other way round than they were asked.
    for (server, id) in questions.iter().rev() {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"word": server}});
        let answer: Value =
            serde_json::from_str(&agent.ask_raw(&answer.to_string()).await).unwrap();
        assert_eq!((&answer["id"], &answer["result"]["word"]), (&json!(server), &json!(server)));
    }
    agent.close().await;
    first.end().await;
    second.end().await;
}

/// The SDK's server, as a process.
async fn fixture() -> (tokio::process::Child, String) {
    let mut command = tokio::process::Command::new(program("mcp-fixture"));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    (child, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_server_is_one_of_two() {
    let (_process, url) = fixture().await;
    let relay = Relay::start();
    let legacy = behind_with(&url, |options| options.legacy = Some(true));
    let modern = behind_with(&url, |options| options.legacy = Some(false));
    let first = serve(&relay, "old", legacy).await;
    let second = serve(&relay, "new", modern).await;
    let (link, _served, _worker) = relay.link();
    let mut agent = Agent::begun(federation(link, &["old", "new"], PATIENCE).await).await;
    let list = agent.ask("tools/list", json!({})).await.unwrap();
    let tools = names(&list, "tools", "name");
    let of = |prefix: &str| tools.iter().filter(|tool| tool.starts_with(prefix)).count();
    assert!(20 < of("old_") && 20 < of("new_"), "{tools:?}");
    for prefix in ["old", "new"] {
        let call = json!({"name": format!("{prefix}_test_simple_text"), "arguments": {}});
        let said = agent.ask("tools/call", call).await.unwrap();
        assert_eq!(said["content"][0]["type"], "text", "{said}");
        let call = json!({"name": format!("{prefix}_test_embedded_resource"), "arguments": {}});
        let said = agent.ask("tools/call", call).await.unwrap();
        let uri = said["content"][0]["resource"]["uri"].as_str().unwrap();
        assert!(uri.starts_with(&format!("{prefix}+test://")), "{said}");
        let completion = json!({
            "ref": {"type": "ref/prompt", "name": format!("{prefix}_test_prompt_with_arguments")},
            "argument": {"name": "arg1", "value": "par"},
        });
        let completed = agent.ask("completion/complete", completion).await.unwrap();
        assert!(completed["completion"]["values"].is_array(), "{completed}");
    }
    let templates = agent.ask("resources/templates/list", json!({})).await.unwrap();
    let templates = names(&templates, "resourceTemplates", "uriTemplate");
    assert!(templates.iter().any(|template| template.starts_with("new+")), "{templates:?}");
    agent.close().await;
    first.end().await;
    second.end().await;
}
