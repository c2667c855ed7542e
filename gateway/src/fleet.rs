//! Several MCP servers behind one edge, as a configuration file says, and as it says anew when it
//! changes.
//!
//! Each server has a link of its own and lives by itself: what changes about one touches no other.

use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::pin, time::Duration};

use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use crate::{
    configuration::{Configuration, Server},
    link,
    message::Limits,
    observed::Observer,
    serve,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a server that could not be served waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How a fleet is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub file: PathBuf,
    /// The way to the relay, for each server.
    pub link: link::Options,
    /// Limits of messages.
    pub limits: Limits,
    /// Who is told of what the servers are asked.
    pub observer: Observer,
}

/// One server that is served.
struct Member {
    server: Server,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Member {
    async fn end(self) {
        // It may have ended by itself.
        _ = self.stop.send(());
        if self.task.await.is_err() {
            tracing::warn!("a server's task has failed");
        }
    }
}

/// Reads the file.
///
/// # Errors
/// What is wrong with it.
pub fn read(file: &std::path::Path) -> Result<Configuration, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
    let variable = |name: &str| std::env::var(name).ok();
    Configuration::parse(&text, variable).map_err(|error| format!("`{}`: {error}", file.display()))
}

/// Serves what the file says until `stop` is done. A file that is wrong changes nothing.
///
/// # Errors
/// If the file is wrong at the beginning.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), String> {
    let mut fleet = Fleet { known: read(&options.file)?, wrong: None, members: BTreeMap::new() };
    let begun = fleet.known.clone();
    fleet.apply(&options, begun).await;
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(LOOK) => fleet.look(&options).await,
        }
    }
    let mut ending: JoinSet<()> = fleet.members.into_values().map(Member::end).collect();
    while ending.join_next().await.is_some() {}
    Ok(())
}

/// What is served now.
struct Fleet {
    known: Configuration,
    /// What was wrong with the file at the last look.
    wrong: Option<String>,
    members: BTreeMap<String, Member>,
}

impl Fleet {
    /// Looks whether the file has changed.
    async fn look(&mut self, options: &Options) {
        match read(&options.file) {
            Ok(now) => {
                self.wrong = None;
                if now != self.known {
                    tracing::info!(file = %options.file.display(), "the configuration has changed");
                    self.apply(options, now).await;
                }
            }
            Err(error) if self.wrong.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::warn!("{error}; what was configured before goes on");
                self.wrong = Some(error);
            }
        }
    }

    /// Ends what is no more or is otherwise now, and begins what is new.
    async fn apply(&mut self, options: &Options, configuration: Configuration) {
        let mut ending = JoinSet::new();
        for (name, member) in std::mem::take(&mut self.members) {
            if configuration.server.get(&name) == Some(&member.server) {
                self.members.insert(name, member);
            } else {
                tracing::info!(name, "is served no longer as it was");
                ending.spawn(member.end());
            }
        }
        while ending.join_next().await.is_some() {}
        for (name, server) in &configuration.server {
            if self.members.contains_key(name) {
                continue;
            }
            let (stop, stopped) = oneshot::channel();
            let serving = keep(options.clone(), name.clone(), server.clone(), stopped);
            let member = Member { server: server.clone(), stop, task: tokio::spawn(serving) };
            self.members.insert(name.clone(), member);
        }
        self.known = configuration;
    }
}

/// Serves one server, again if it could not be served, until it is told to stop.
async fn keep(options: Options, name: String, server: Server, mut stopped: oneshot::Receiver<()>) {
    loop {
        let told = async {
            // The sender is dropped with its member.
            _ = (&mut stopped).await;
        };
        match serve_once(&options, &name, &server, told).await {
            Ok(()) => return,
            Err(error) => tracing::error!(name, "{error}; it is tried again"),
        }
        tokio::select! {
            _ = &mut stopped => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn serve_once(
    options: &Options,
    name: &str,
    server: &Server,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let name = server.name(name).map_err(|error| error.to_string())?;
    let started = server.start(options.limits)?;
    let opened = link::open(options.link.clone()).map_err(|error| error.to_string());
    let (link, served, handle) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            started.backend.shutdown().await;
            return Err(error);
        }
    };
    let mut told = server.options(name, options.limits);
    told.observer = options.observer.of(&told.name);
    let server = serve::Server {
        link,
        served,
        backend: started.backend,
        news: started.news,
        own: started.own,
    };
    let ended = serve::run(server, told, stop).await;
    link::close(handle).await;
    ended.map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use aip_engine::io::{Target, Trust};

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_wrong_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let relay = Target::new("moqt://127.0.0.1:1", Trust::Insecure).unwrap();
        let options = Options {
            file: file.path().to_owned(),
            link: link::Options::new(relay),
            limits: Limits::default(),
            observer: Observer::default(),
        };
        write("[server.one]\ncommand = [\"cat\"]\n");
        let begun = read(file.path()).unwrap();
        let mut fleet = Fleet { known: begun.clone(), wrong: None, members: BTreeMap::new() };
        fleet.apply(&options, begun.clone()).await;
        let serving = fleet.members["one"].task.id();
        write("[server.one]\nwhat = 1\n");
        fleet.look(&options).await;
        assert!(fleet.wrong.as_ref().unwrap().contains("what"));
        assert_eq!((&fleet.known, fleet.members["one"].task.id()), (&begun, serving));
        write("[server.two]\ncommand = [\"cat\"]\n");
        fleet.look(&options).await;
        assert_eq!(fleet.wrong, None);
        assert_eq!(fleet.members.keys().collect::<Vec<_>>(), ["two"]);
        for member in fleet.members.into_values() {
            member.end().await;
        }
    }
}
