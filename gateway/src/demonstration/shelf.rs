//! The folder that the library stands on: text, and one file that changes.

use std::{io, path::Path};

/// The file that every agent reads and that changes.
pub(super) const NEWS: &str = "news.md";
/// Text files that are taken from where the demonstration is started.
const TAKEN_MAX: usize = 50;
/// Bytes of a file that is taken.
const LENGTH_MAX: u64 = 256 << 10;

/// A folder of its own; it goes with this.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: tempfile::TempDir,
}

impl Shelf {
    /// Fills a folder: copies of the Markdown files around, a few lines to find, and the news.
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("aip-demo-").tempdir()?;
        let taken = std::fs::read_dir(".").into_iter().flatten().flatten().filter(|entry| {
            entry.path().extension().is_some_and(|extension| extension == "md")
                && entry.metadata().is_ok_and(|m| m.is_file() && m.len() <= LENGTH_MAX)
        });
        for entry in taken.take(TAKEN_MAX) {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
        }
        for number in 0..100 {
            let text = format!("# Note {number}\n\n{}\n", needle(number));
            std::fs::write(folder.path().join(format!("note-{number}.md")), text)?;
        }
        let shelf = Self { folder };
        std::fs::write(shelf.folder().join(NEWS), "Nothing new.\n")?;
        Ok(shelf)
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The news after the change.
    pub(super) const fn new_text(&self) -> &'static str {
        "The news has changed, and every agent was told.\n"
    }

    /// Changes the news, as an editor does: at once.
    pub(super) async fn change(&self) -> io::Result<()> {
        let (new, news) = (self.folder().join(".news"), self.folder().join(NEWS));
        tokio::fs::write(&new, self.new_text()).await?;
        tokio::fs::rename(new, news).await
    }
}

/// What only this note says.
pub(super) fn needle(number: usize) -> String {
    format!("This is needle number {number}x.")
}
