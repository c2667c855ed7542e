//! What a process leaves to the one after it: a file in which its live connections are noted.
//!
//! A process that is killed cannot say farewell. The next one at its addresses answers every packet
//! of an old connection by a stateless reset, but who only listens sends none for a while. So each
//! connection that a client has opened is noted: its two addresses, and the id by which the client
//! speaks to us. The next process sends each of them a stateless reset as soon as it begins.
//!
//! What is written is in the system's cache, which outlives the process. A thread of its own writes;
//! of what it cannot keep up with the rest is lost, and counted. Every note is sealed with the key of
//! stateless resets: what another program has put into the file is not heard.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{cid::Cid, stateless_reset::ResetKey};

/// What a record begins with, in the place of a note; the last byte counts its forms.
const MAGIC: [u8; 16] = *b"aip connections\x01";
/// Bytes of a note: two addresses, an id, a seal.
const NOTE: usize = ADDRESS * 2 + 16 + SEAL;
const ADDRESS: usize = 1 + 16 + 2;
const SEAL: usize = 10;
/// Notes that may wait to be written.
const WAITING_MAX: usize = 4_096;
/// Notes that a record may have; one with more is not read.
const NOTES_MAX: u64 = 1 << 24;

/// A connection as its peer sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    /// The peer's address.
    pub(super) peer: SocketAddr,
    /// Ours.
    pub(super) local: SocketAddr,
    /// The id by which the peer speaks to us.
    pub(super) id: Cid,
}

/// A change of a record.
#[derive(Debug)]
struct Change {
    /// Which note, counted from 0.
    index: u64,
    link: Option<Link>,
}

/// One worker's part of a record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    changes: SyncSender<Change>,
    /// The first of its notes.
    first: u64,
    notes_max: u32,
}

impl Record {
    /// Notes the connection in a slot, or that there is none any more. False if that was lost.
    pub(super) fn note(&self, slot: u32, link: Option<Link>) -> bool {
        let index = self.first + u64::from(slot);
        slot < self.notes_max && self.changes.try_send(Change { index, link }).is_ok()
    }

    /// The same record for another worker.
    pub(super) fn of_worker(&self, worker: usize) -> Self {
        let first = worker as u64 * u64::from(self.notes_max);
        Self { first, ..self.clone() }
    }
}

/// A record, and the connections of the process before this one.
///
/// # Errors
/// If the file cannot be used: this process then leaves none.
pub(super) fn open(path: &Path, key: &ResetKey, notes_max: u32) -> io::Result<(Record, Vec<Link>)> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::other("another process keeps it"));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let left = read(&mut file, key).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the record of connections is not read");
        Vec::new()
    });
    file.set_len(0)?;
    file.write_all_at(&head(), 0)?;
    let (changes, wanted) = sync_channel(WAITING_MAX);
    let key = key.clone();
    thread::Builder::new()
        .name("aip-record".to_owned())
        .spawn(move || write(&file, &key, &wanted))?;
    Ok((Record { changes, first: 0, notes_max }, left))
}

fn head() -> [u8; NOTE] {
    let mut head = [0; NOTE];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head
}

/// The connections that a file names under this key.
fn read(file: &mut File, key: &ResetKey) -> io::Result<Vec<Link>> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Vec::new());
    }
    if NOTES_MAX < length / NOTE as u64 {
        return Err(io::Error::other("it is too long"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (notes, rest) = bytes.as_chunks::<NOTE>();
    let Some((_, notes)) = notes.split_first().filter(|(first, _)| **first == head()) else {
        return Err(io::Error::other("it is none"));
    };
    let is_used = |note: &&[u8; NOTE]| note[0] != 0;
    let used = notes.iter().filter(is_used).count();
    let links: Vec<Link> = notes.iter().filter_map(|note| decode(note, key)).collect();
    if links.len() < used || !rest.is_empty() {
        let damaged = used - links.len();
        tracing::warn!(damaged, "notes in the record of connections are not this relay's");
    }
    Ok(links)
}

/// Writes what workers want noted, until there are none any more.
fn write(file: &File, key: &ResetKey, wanted: &Receiver<Change>) {
    let mut failed = false;
    while let Ok(Change { index, link }) = wanted.recv() {
        let note = link.map_or([0; NOTE], |link| encode(&link, key));
        let written = file.write_all_at(&note, (1 + index) * NOTE as u64);
        match written {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(%error, "the record of connections cannot be written");
            }
            Err(_) => {}
        }
    }
}

fn encode(link: &Link, key: &ResetKey) -> [u8; NOTE] {
    let mut note = [0; NOTE];
    for (address, out) in [link.peer, link.local].into_iter().zip(note.chunks_mut(ADDRESS)) {
        match address.ip() {
            IpAddr::V4(ip) => {
                out[0] = 4;
                out[1..5].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out[0] = 6;
                out[1..17].copy_from_slice(&ip.octets());
            }
        }
        out[17..19].copy_from_slice(&address.port().to_be_bytes());
    }
    note[ADDRESS * 2..NOTE - SEAL].copy_from_slice(&link.id);
    // Without a seal it is not heard, which is all that can be done for it.
    let seal = key.seal(&note[..NOTE - SEAL]).unwrap_or_default();
    note[NOTE - SEAL..].copy_from_slice(&seal[..SEAL]);
    note
}

fn decode(note: &[u8; NOTE], key: &ResetKey) -> Option<Link> {
    let (sealed, seal) = note.split_at(NOTE - SEAL);
    if key.seal(sealed).ok()?[..SEAL] != *seal {
        return None;
    }
    let address = |bytes: &[u8]| -> Option<SocketAddr> {
        let octets: [u8; 16] = bytes.get(1..17)?.try_into().ok()?;
        let ip = match bytes.first()? {
            4 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
            6 => IpAddr::from(octets),
            _ => return None,
        };
        let port = u16::from_be_bytes(bytes.get(17..19)?.try_into().ok()?);
        Some(SocketAddr::new(ip, port))
    };
    Some(Link {
        peer: address(&sealed[..ADDRESS])?,
        local: address(&sealed[ADDRESS..ADDRESS * 2])?,
        id: sealed[ADDRESS * 2..].try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

    use super::*;

    fn link(port: u16) -> Link {
        let peer = SocketAddr::new([192, 0, 2, 7].into(), port);
        Link { peer, local: "[2001:db8::1]:4433".parse().unwrap(), id: [9; 16] }
    }

    fn key() -> ResetKey {
        ResetKey::random().unwrap()
    }

    /// A folder of this test's own.
    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("aip-record-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).unwrap();
        path
    }

    /// Lets go of a record. Its writer holds the lock until it has written all.
    fn close(path: &Path, record: Record) {
        drop(record);
        File::open(path).unwrap().lock().unwrap();
    }

    /// What is in the file after these links were noted.
    fn written(path: &Path, key: &ResetKey, links: &[Link]) -> Vec<u8> {
        let (record, _) = open(path, key, 100).unwrap();
        for (slot, link) in (0..).zip(links) {
            assert!(record.note(slot, Some(*link)));
        }
        close(path, record);
        fs::read(path).unwrap()
    }

    /// What the process before has left.
    fn left(path: &Path, key: &ResetKey) -> Vec<Link> {
        let (record, left) = open(path, key, 100).unwrap();
        close(path, record);
        left
    }

    #[test]
    fn what_is_noted_is_left_to_the_next() {
        let (folder, key) = (folder("left"), key());
        let path = folder.join("connections");
        written(&path, &key, &[link(1), link(2), link(3)]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (record, left) = open(&path, &key, 100).unwrap();
        assert_eq!(left, [link(1), link(2), link(3)]);
        // Each is told once: the file is empty now.
        record.note(5, Some(link(7)));
        record.note(5, None);
        let other = record.of_worker(3);
        other.note(0, Some(link(8)));
        assert!(!record.note(100, Some(link(9))), "it is another worker's");
        drop(other);
        close(&path, record);
        assert_eq!(self::left(&path, &key), [link(8)]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_record_or_damaged_is_not_heard() {
        let (folder, key) = (folder("damaged"), key());
        let path = folder.join("connections");
        let sound = written(&path, &key, &[link(1), link(2)]);
        let left = |bytes: &[u8], key: &ResetKey| {
            fs::write(&path, bytes).unwrap();
            left(&path, key)
        };
        assert_eq!(left(&sound, &key).len(), 2);
        assert!(left(&sound, &self::key()).is_empty(), "another relay's");
        for cut in 0..sound.len() {
            let whole = (cut / NOTE).saturating_sub(1);
            assert_eq!(left(&sound[..cut], &key).len(), whole, "cut at {cut}");
        }
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            let heard = left(&bytes, &key);
            let expected = if at < NOTE { 0 } else { 1 };
            assert_eq!(heard.len(), expected, "changed at {at}");
        }
        for noise in [&b"x"[..], &[0xff; 1_000], &[0; 1_000]] {
            assert!(left(noise, &key).is_empty());
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_process_keeps_a_record_and_only_in_a_file() {
        let (folder, key) = (folder("kept"), key());
        let path = folder.join("connections");
        let kept = open(&path, &key, 100).unwrap();
        assert!(open(&path, &key, 100).is_err());
        drop(kept);
        let other = folder.join("other");
        symlink("/dev/null", &other).unwrap();
        assert!(open(&other, &key, 100).is_err());
        assert!(open(&folder, &key, 100).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn too_many_notes_at_once_are_lost_and_said_so() {
        let (changes, wanted) = sync_channel(2);
        let record = Record { changes, first: 0, notes_max: 10 };
        let noted = (0..4).filter(|slot| record.note(*slot, None)).count();
        assert_eq!(noted, 2);
        assert!(wanted.recv_timeout(Duration::ZERO).is_ok());
        assert!(record.note(3, None));
    }
}
