//! An MCP server over a folder of text: search it, read it, be told when it changes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
        GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, JsonObject,
        ListPromptsResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams, Prompt,
        PromptArgument, PromptMessage, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
        ResourceUpdatedNotificationParam, Role, ServerCapabilities, ServerConfig,
        SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use serde_json::json;
use tokio::sync::broadcast;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Files that are shown; what comes after is not.
const FILES_MAX: usize = 1_000;
/// Bytes of a file that are read.
const FILE_LENGTH_MAX: u64 = 1 << 20;
/// Places that a search finds at most.
const FOUND_MAX: usize = 20;
/// How long results may be kept by clients of MCP 2026-07-28. Changes are told anyway.
const TTL_MS: u64 = 60_000;
const SCHEME: &str = "library:///";

/// What has happened in the folder.
#[derive(Clone, Debug)]
enum Change {
    /// Files came or went.
    Listed,
    /// A file has other content.
    Updated(String),
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

/// Files and their texts.
#[derive(Debug, Default)]
struct Texts {
    texts: BTreeMap<String, (Stamp, Arc<str>)>,
}

/// What the server was asked, over all its clients.
#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    lists: AtomicU64,
    calls: AtomicU64,
}

/// See the module. Clones are the same server.
#[derive(Clone, Debug)]
pub struct Library {
    folder: Arc<Path>,
    /// What was read last of each file, and what tells whether it is that still.
    texts: Arc<Mutex<Texts>>,
    changes: broadcast::Sender<Change>,
    counts: Arc<Counts>,
    /// Resources that clients with sessions want to be told of.
    subscribed: Arc<Mutex<BTreeSet<String>>>,
    versions: &'static [ProtocolVersion],
}

/// Serves a folder on standard streams until the client closes them. `modern`: only MCP
/// 2026-07-28, or only revisions before it; `None`: all.
///
/// # Errors
/// If the client does not begin as MCP has it.
pub async fn run(folder: PathBuf, modern: Option<bool>) -> Result<(), String> {
    let running = Library::start(folder, modern)
        .serve((tokio::io::stdin(), tokio::io::stdout()))
        .await
        .map_err(|error| error.to_string())?;
    let ended = running.waiting().await;
    ended.map(|_| ()).map_err(|error| error.to_string())
}

impl Library {
    /// A server over a folder; see [`run`]. Must be called within a runtime.
    pub fn start(folder: PathBuf, modern: Option<bool>) -> Self {
        let library = Self::new(folder, modern);
        tokio::spawn(watch(Arc::downgrade(&library.folder), library.changes.clone()));
        library
    }

    fn new(folder: PathBuf, modern: Option<bool>) -> Self {
        const LEGACY: &[ProtocolVersion] = &[
            ProtocolVersion::V_2025_03_26,
            ProtocolVersion::V_2025_06_18,
            ProtocolVersion::V_2025_11_25,
        ];
        let versions = match modern {
            None => ProtocolVersion::KNOWN_VERSIONS,
            Some(true) => &[ProtocolVersion::V_2026_07_28],
            Some(false) => LEGACY,
        };
        Self {
            folder: folder.into(),
            texts: Arc::default(),
            changes: broadcast::Sender::new(1_024),
            counts: Arc::default(),
            subscribed: Arc::default(),
            versions,
        }
    }

    /// All texts as they are now. Only what has changed is read again.
    fn texts(&self) -> BTreeMap<String, Arc<str>> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = files(&self.folder);
        texts.texts.retain(|path, (stamp, _)| now.get(path) == Some(stamp));
        for (path, stamp) in now {
            if let std::collections::btree_map::Entry::Vacant(entry) = texts.texts.entry(path)
                && let Ok(text) = std::fs::read_to_string(self.folder.join(entry.key()))
            {
                entry.insert((stamp, text.into()));
            }
        }
        texts.texts.iter().map(|(path, (_, text))| (path.clone(), Arc::clone(text))).collect()
    }

    /// Only what is listed is read: nothing outside of the folder.
    fn text(&self, path: &str) -> Result<Arc<str>, ErrorData> {
        self.texts()
            .remove(path)
            .ok_or_else(|| ErrorData::resource_not_found(format!("no file `{path}` here"), None))
    }

    fn search(&self, words: &str) -> String {
        let words = words.to_lowercase();
        let mut found = Vec::new();
        for (path, text) in self.texts() {
            for (number, line) in text.lines().enumerate() {
                if line.to_lowercase().contains(&words) {
                    found.push(format!("{path}:{}: {}", number + 1, line.trim()));
                    if found.len() == FOUND_MAX {
                        return found.join("\n");
                    }
                }
            }
        }
        if found.is_empty() { "nothing found".to_owned() } else { found.join("\n") }
    }

    fn statistics(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "reads": count(&self.counts.reads),
            "lists": count(&self.counts.lists),
            "calls": count(&self.counts.calls),
        })
        .to_string()
    }
}

/// Looks at the folder again and again, and tells what has changed, as long as a server is there.
async fn watch(folder: Weak<Path>, changes: broadcast::Sender<Change>) {
    let mut known: Option<BTreeMap<String, Stamp>> = None;
    while let Some(folder) = folder.upgrade() {
        let now = files(&folder);
        drop(folder);
        if let Some(known) = known {
            if !now.keys().eq(known.keys()) {
                // Nobody may listen.
                _ = changes.send(Change::Listed);
            }
            for (path, state) in &now {
                if known.get(path).is_some_and(|before| before != state) {
                    // Nobody may listen.
                    _ = changes.send(Change::Updated(format!("{SCHEME}{path}")));
                }
            }
        }
        known = Some(now);
        tokio::time::sleep(LOOK).await;
    }
}

/// Text files of a folder and of those in it.
fn files(folder: &Path) -> BTreeMap<String, Stamp> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else { continue };
        for entry in entries.flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_text = name.ends_with(".md") || name.ends_with(".txt");
            if kind.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                folders.push(path);
            } else if kind.is_file() && is_text {
                let (Ok(metadata), Ok(path)) = (entry.metadata(), path.strip_prefix(folder)) else {
                    continue;
                };
                if metadata.len() <= FILE_LENGTH_MAX && found.len() < FILES_MAX {
                    let path = path.to_string_lossy().into_owned();
                    let stamp =
                        Stamp { length: metadata.len(), modified: metadata.modified().ok() };
                    found.insert(path, stamp);
                }
            }
        }
    }
    found
}

fn schema(member: &str, meaning: &str) -> Arc<JsonObject> {
    let schema = json!({
        "type": "object",
        "properties": { member: { "type": "string", "description": meaning } },
        "required": [member],
    });
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}

fn argument(arguments: Option<&JsonObject>, name: &str) -> Result<String, ErrorData> {
    arguments
        .and_then(|arguments| arguments.get(name)?.as_str().map(ToOwned::to_owned))
        .ok_or_else(|| ErrorData::invalid_params(format!("`{name}` is wanted"), None))
}

impl ServerHandler for Library {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("library", env!("CARGO_PKG_VERSION")))
            .with_instructions("Search and read a folder of text.")
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(self.versions)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.counts.lists.fetch_add(1, Ordering::Relaxed);
        let mut result = ListToolsResult::with_all_items(vec![
            Tool::new("search", "Lines that contain these words.", schema("words", "What to find")),
            Tool::new("read", "The text of a file.", schema("path", "As search gives it")),
            Tool::new(
                "statistics",
                "How often this server was asked.",
                Arc::new(json!({"type": "object"}).as_object().cloned().unwrap_or_default()),
            ),
        ]);
        (result.ttl_ms, result.cache_scope) = (Some(TTL_MS), Some(CacheScope::Public));
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        let arguments = request.arguments.as_ref();
        let text = match &*request.name {
            "search" => self.search(&argument(arguments, "words")?),
            "read" => self.text(&argument(arguments, "path")?)?.to_string(),
            "statistics" => self.statistics(),
            other => {
                return Err(ErrorData::invalid_params(format!("no tool `{other}` here"), None));
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.counts.lists.fetch_add(1, Ordering::Relaxed);
        let resources = files(&self.folder).into_iter().map(|(path, stamp)| {
            Resource::new(format!("{SCHEME}{path}"), path)
                .with_size(stamp.length)
                .with_mime_type("text/plain")
        });
        let mut result = ListResourcesResult::with_all_items(resources.collect());
        (result.ttl_ms, result.cache_scope) = (Some(TTL_MS), Some(CacheScope::Public));
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        let path = request.uri.strip_prefix(SCHEME).unwrap_or_default();
        let contents = ResourceContents::text(&*self.text(path)?, request.uri.clone());
        let result = ReadResourceResult::new(vec![contents.with_mime_type("text/plain")]);
        Ok(result.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public).into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.counts.lists.fetch_add(1, Ordering::Relaxed);
        let path =
            PromptArgument::new("path").with_description("As search gives it").with_required(true);
        let prompt = Prompt::new("summarize", Some("Summarize a file."), Some(vec![path]));
        let mut result = ListPromptsResult::with_all_items(vec![prompt]);
        (result.ttl_ms, result.cache_scope) = (Some(TTL_MS), Some(CacheScope::Public));
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let text = self.text(&argument(request.arguments.as_ref(), "path")?)?;
        let text = format!("Summarize this text in three sentences:\n\n{text}");
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let (mut changes, subscribed) = (self.changes.subscribe(), Arc::clone(&self.subscribed));
        tokio::spawn(async move {
            while let Ok(change) = changes.recv().await {
                let told = match change {
                    Change::Listed => context.peer.notify_resource_list_changed().await,
                    Change::Updated(uri) => {
                        let wanted = subscribed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .contains(&uri);
                        if !wanted {
                            continue;
                        }
                        let uri = ResourceUpdatedNotificationParam::new(uri);
                        context.peer.notify_resource_updated(uri).await
                    }
                };
                if told.is_err() {
                    return;
                }
            }
        });
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner).insert(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        let accepted = context.sink().accepted().clone();
        let follows = |uri: &String| {
            accepted.resource_subscriptions.as_ref().is_some_and(|uris| uris.contains(uri))
        };
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            let told = match change {
                Ok(Change::Listed) if accepted.resources_list_changed == Some(true) => {
                    context.sink().notify_resource_list_changed().await
                }
                Ok(Change::Updated(uri)) if follows(&uri) => {
                    context.sink().notify_resource_updated(uri).await
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
            told.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        }
    }
}
