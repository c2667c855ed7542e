//! Messages of one request or session, kept for a reader whose connection broke until it comes back
//! and reads on where it was.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, watch};

use crate::message::Message;

/// Messages that may wait to be read; what would be one more is held back where it comes from.
const UNREAD_MAX: usize = 256;
/// Messages that are kept after they were read, for who lost them.
const READ_MAX: usize = 256;
/// Bytes of them.
const READ_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Resumable {
    kept: Mutex<Kept>,
    /// Something was read or is to be read.
    changed: Notify,
    readers: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Message>,
    /// The number of the first of them; the stream's first message has 1.
    first: u64,
    /// The number of the last one that was read.
    read: u64,
    /// Bytes of those that were read.
    read_bytes: usize,
    /// Whether nothing follows.
    over: bool,
    /// Who reads; one who comes later takes its place.
    reader: u64,
}

impl Kept {
    fn unread(&self) -> usize {
        let last = self.first + self.messages.len() as u64;
        usize::try_from(last.saturating_sub(self.read + 1)).unwrap_or(usize::MAX)
    }

    /// The message of this number; whatever was read too long ago is let go.
    fn take(&mut self, number: u64) -> Option<Message> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let message = self.messages.get(index)?.clone();
        if self.read < number {
            self.read = number;
            self.read_bytes += message.text().len();
        }
        while 1 < self.messages.len()
            && self.first < self.read
            && (READ_MAX < self.messages.len() - self.unread() || READ_BYTES_MAX < self.read_bytes)
        {
            let dropped = self.messages.pop_front();
            self.read_bytes -= dropped.map_or(0, |dropped| dropped.text().len());
            self.first += 1;
        }
        Some(message)
    }
}

impl Resumable {
    /// A stream without messages.
    pub(crate) fn new() -> Arc<Self> {
        let kept = Mutex::new(Kept { first: 1, ..Kept::default() });
        Arc::new(Self { kept, changed: Notify::new(), readers: watch::Sender::new(0) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What a thread that panicked left behind is whole: nothing panics between two changes.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody reads it now.
    pub(crate) fn is_read(&self) -> bool {
        0 < *self.readers.borrow()
    }

    /// Reads on behind the message of this number; `None` is behind what was read last. Who read
    /// before reads no longer. `None` if what follows is kept no more.
    pub(crate) fn read(self: &Arc<Self>, after: Option<u64>) -> Option<Reader> {
        let mut kept = self.kept();
        let next = after.unwrap_or(kept.read) + 1;
        let end = kept.first + kept.messages.len() as u64;
        if next < kept.first || end < next {
            return None;
        }
        kept.reader += 1;
        let turn = kept.reader;
        drop(kept);
        self.readers.send_modify(|readers| *readers += 1);
        self.changed.notify_waiters();
        Some(Reader { stream: Arc::clone(self), next, turn })
    }

    /// Keeps a message.
    pub(crate) fn push(&self, message: Message) {
        self.kept().messages.push_back(message);
        self.changed.notify_waiters();
    }

    /// Keeps what comes from `messages`, as long as there is room, until their end.
    pub(crate) async fn keep(&self, messages: &mut mpsc::Receiver<Message>) {
        loop {
            self.room().await;
            let Some(message) = messages.recv().await else { break };
            let is_last = message.is_response();
            self.push(message);
            if is_last {
                break;
            }
        }
        self.end();
    }

    /// Waits until another message has room.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.kept().unread() < UNREAD_MAX {
                return;
            }
            changed.await;
        }
    }

    /// Nothing follows: readers end.
    pub(crate) fn end(&self) {
        self.kept().over = true;
        self.changed.notify_waiters();
    }

    /// Done when nobody has read for `absence`.
    pub(crate) async fn abandoned(&self, absence: Duration) {
        let mut readers = self.readers.subscribe();
        loop {
            // The sender lives as long as the stream.
            _ = readers.wait_for(|readers| *readers == 0).await;
            let back = readers.wait_for(|readers| 0 < *readers);
            if tokio::time::timeout(absence, back).await.is_err() {
                return;
            }
        }
    }
}

/// Who reads a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Arc<Resumable>,
    /// The number of the message that comes next.
    next: u64,
    turn: u64,
}

impl Reader {
    /// The next message and its number; `None` at the end, or if another reads now.
    pub(crate) async fn next(&mut self) -> Option<(u64, Message)> {
        let stream = Arc::clone(&self.stream);
        loop {
            let changed = stream.changed.notified();
            {
                let mut kept = stream.kept();
                if kept.reader != self.turn {
                    return None;
                }
                if let Some(message) = kept.take(self.next) {
                    drop(kept);
                    self.next += 1;
                    // There may be room again.
                    stream.changed.notify_waiters();
                    return Some((self.next - 1, message));
                }
                if kept.over {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// The number of the message behind which this reader reads.
    pub(crate) const fn after(&self) -> u64 {
        self.next - 1
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.readers.send_modify(|readers| *readers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Id;

    fn note(number: u64) -> Message {
        Message::notification("n", &format!(r#"{{"n":{number}}}"#))
    }

    #[tokio::test]
    async fn who_comes_back_misses_nothing_and_hears_nothing_twice() {
        let stream = Resumable::new();
        let (sender, mut messages) = mpsc::channel(8);
        let keeping = {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { stream.keep(&mut messages).await })
        };
        let mut reader = stream.read(None).unwrap();
        assert_eq!(reader.after(), 0);
        for number in 1..=3 {
            sender.send(note(number)).await.unwrap();
        }
        let (after, first) = reader.next().await.unwrap();
        assert_eq!((after, first.body()), (1, r#"{"n":1}"#));
        reader.next().await.unwrap();
        // The second was sent, and lost on its way.
        let mut again = stream.read(Some(after)).unwrap();
        assert!(reader.next().await.is_none(), "another reads now");
        assert_eq!(again.next().await.unwrap().0, 2);
        sender.send(Message::result(&Id::from_number(1), b"{}")).await.unwrap();
        assert_eq!(again.next().await.unwrap().0, 3);
        assert!(again.next().await.unwrap().1.is_response());
        assert!(again.next().await.is_none());
        keeping.await.unwrap();
        assert!(stream.read(Some(9)).is_none(), "it never came so far");
    }

    #[tokio::test]
    async fn what_was_read_is_kept_within_bounds_and_what_was_not_is_kept() {
        let stream = Resumable::new();
        let (sender, mut messages) = mpsc::channel(2_000);
        for number in 1..=1_000 {
            sender.send(note(number)).await.unwrap();
        }
        drop(sender);
        let keeping = {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { stream.keep(&mut messages).await })
        };
        let mut reader = stream.read(None).unwrap();
        for number in 1..=1_000 {
            assert_eq!(reader.next().await.unwrap().0, number);
            let kept = stream.kept().messages.len();
            assert!(kept <= UNREAD_MAX + READ_MAX + 1, "{kept}");
        }
        keeping.await.unwrap();
        assert!(stream.read(Some(10)).is_none(), "too long ago");
        assert!(stream.read(Some(900)).is_some());
    }
}
