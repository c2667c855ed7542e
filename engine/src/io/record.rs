//! What a process leaves to the one after it: a file in which its live connections are noted.
//!
//! A process that is killed cannot say farewell. The next one at its addresses answers every packet
//! of an old connection by a stateless reset, but who only listens sends none for a while. So each
//! connection that a client has opened is noted: its two addresses, and the id by which the client
//! speaks to us. The next process sends each of them a stateless reset as soon as it begins.
//!
//! What was noted is kept beside the new record until all of that is said, so that it is not lost
//! with a process that dies before.
//!
//! What is written is in the system's cache, which outlives the process. A thread of its own writes;
//! of what it cannot keep up with the rest is refused, counted, and tried again. Every note is sealed
//! with the key of stateless resets: what another program has put into the file is not heard.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, BufReader, BufWriter, Read, Write as _},
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
pub(super) const NOTES_MAX: u64 = 1 << 24;
/// Bytes of a record that are read or written at once.
const BUFFER: usize = 64 << 10;
/// How the file is called that keeps what is still to be said.
const OWED: &str = "owed";

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
enum Change {
    /// Of the note with this index, counted from 0.
    Note { index: u64, link: Option<Link> },
    /// All is said that the process before this one has left.
    NothingOwed,
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
    /// Notes the connection in a slot, or that there is none any more. False if there is no room for
    /// that now.
    pub(super) fn note(&self, slot: u32, link: Option<Link>) -> bool {
        let index = self.first + u64::from(slot);
        slot < self.notes_max && self.changes.try_send(Change::Note { index, link }).is_ok()
    }

    /// All is said that the process before this one has left. False if there is no room for that now.
    pub(super) fn note_nothing_owed(&self) -> bool {
        self.changes.try_send(Change::NothingOwed).is_ok()
    }

    /// One that is never written.
    #[cfg(test)]
    pub(super) fn of_capacity(capacity: usize) -> (Self, Receiver<impl Sized>) {
        let (changes, wanted) = sync_channel::<Change>(capacity);
        (Self { changes, first: 0, notes_max: u32::MAX }, wanted)
    }

    /// The same record for another worker.
    pub(super) fn of_worker(&self, worker: usize) -> Self {
        let first = worker as u64 * u64::from(self.notes_max);
        Self { first, ..self.clone() }
    }
}

/// The connections of the processes before this one, as many as there are notes at most; and a record.
///
/// # Errors
/// If the file cannot be used: this process then leaves no record, and what it found stays.
pub(super) fn open(path: &Path, key: &ResetKey, notes_max: u32) -> (Vec<Link>, io::Result<Record>) {
    let mut left = Vec::new();
    let record = begin(path, key, notes_max, &mut left);
    (left, record)
}

fn begin(path: &Path, key: &ResetKey, notes_max: u32, left: &mut Vec<Link>) -> io::Result<Record> {
    let file = lock(path)?;
    let owed = path.with_extension(OWED);
    if let Ok(file) = options().open(&owed) {
        read(&owed, &file, key, notes_max, left);
    }
    read(path, &file, key, notes_max, left);
    keep(&owed, left, key)?;
    file.set_len(0)?;
    file.write_all_at(&head(), 0)?;
    let (changes, wanted) = sync_channel(WAITING_MAX);
    let key = key.clone();
    thread::Builder::new()
        .name("aip-record".to_owned())
        .spawn(move || write(&file, &owed, &key, &wanted))?;
    Ok(Record { changes, first: 0, notes_max })
}

/// Neither another program's file nor its device is to be taken for a record.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// The record's file, which no other process keeps.
fn lock(path: &Path) -> io::Result<File> {
    let file = options().write(true).create(true).truncate(false).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process keeps it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Keeps what is still to be said.
fn keep(owed: &Path, links: &[Link], key: &ResetKey) -> io::Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let new = owed.with_extension("new");
    remove(&new)?;
    let file = options().write(true).create_new(true).open(&new)?;
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    writer.write_all(&head())?;
    for link in links {
        writer.write_all(&encode(link, key))?;
    }
    writer.flush()?;
    fs::rename(&new, owed)
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn head() -> [u8; NOTE] {
    let mut head = [0; NOTE];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head
}

/// Adds the connections that a file names under this key, until there are `links_max`.
fn read(path: &Path, file: &File, key: &ResetKey, links_max: u32, links: &mut Vec<Link>) {
    let damaged = read_notes(file, |note| match decode(note, key) {
        Some(_) if links_max as usize <= links.len() => true,
        Some(link) => {
            links.push(link);
            true
        }
        None => false,
    });
    let path = path.display();
    match damaged {
        Ok(0) => {}
        Ok(damaged) => tracing::warn!(%path, damaged, "notes of connections are not this relay's"),
        Err(error) => tracing::warn!(%path, %error, "the record of connections is not read"),
    }
}

/// Gives each note of a file; says how many are none. One that is cut short was being written when
/// its process ended.
fn read_notes(file: &File, mut is_sound: impl FnMut(&[u8; NOTE]) -> bool) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(0);
    }
    if NOTES_MAX < length / NOTE as u64 {
        return Err(io::Error::other("it is too long"));
    }
    let mut reader = BufReader::with_capacity(BUFFER, file);
    if next(&mut reader)? != Some(head()) {
        return Err(io::Error::other("it is none"));
    }
    let mut damaged = 0;
    while let Some(note) = next(&mut reader)? {
        if note[0] != 0 && !is_sound(&note) {
            damaged += 1;
        }
    }
    Ok(damaged)
}

/// The next note, if it is whole.
fn next(reader: &mut impl Read) -> io::Result<Option<[u8; NOTE]>> {
    let mut note = [0; NOTE];
    match reader.read_exact(&mut note) {
        Ok(()) => Ok(Some(note)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes what workers want noted, until there are none any more.
fn write(file: &File, owed: &Path, key: &ResetKey, wanted: &Receiver<Change>) {
    let mut failed = false;
    while let Ok(change) = wanted.recv() {
        let written = match change {
            Change::Note { index, link } => {
                let note = link.map_or([0; NOTE], |link| encode(&link, key));
                file.write_all_at(&note, (1 + index) * NOTE as u64)
            }
            Change::NothingOwed => remove(owed),
        };
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
        let record = open(path, key, 100).1.unwrap();
        for (slot, link) in (0..).zip(links) {
            assert!(record.note(slot, Some(*link)));
        }
        close(path, record);
        fs::read(path).unwrap()
    }

    /// What the process before has left, all of which is said.
    fn left(path: &Path, key: &ResetKey) -> Vec<Link> {
        let (left, record) = open(path, key, 100);
        let record = record.unwrap();
        assert!(record.note_nothing_owed());
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
        let (left, record) = open(&path, &key, 100);
        let record = record.unwrap();
        assert_eq!(left, [link(1), link(2), link(3)]);
        // Each is told once.
        assert!(record.note_nothing_owed());
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
        let kept = open(&path, &key, 100).1.unwrap();
        assert!(open(&path, &key, 100).1.is_err());
        drop(kept);
        let other = folder.join("other");
        symlink("/dev/null", &other).unwrap();
        assert!(open(&other, &key, 100).1.is_err());
        assert!(open(&folder, &key, 100).1.is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_left_stays_until_it_is_said() {
        let (folder, key) = (folder("owed"), key());
        let path = folder.join("connections");
        written(&path, &key, &[link(1), link(2)]);
        // A process that notes one of its own, and dies before it has said anything.
        let (left, record) = open(&path, &key, 100);
        assert_eq!(left.len(), 2);
        let record = record.unwrap();
        assert!(record.note(0, Some(link(3))));
        close(&path, record);
        assert_eq!(self::left(&path, &key), [link(1), link(2), link(3)]);
        assert!(self::left(&path, &key).is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_left_is_known_though_no_record_can_be_begun() {
        let (folder, key) = (folder("begun"), key());
        let path = folder.join("connections");
        written(&path, &key, &[link(1)]);
        // What is still to be said cannot be kept.
        fs::create_dir(path.with_extension(OWED)).unwrap();
        let (left, record) = open(&path, &key, 100);
        assert!(record.is_err());
        assert_eq!(left, [link(1)]);
        fs::remove_dir(path.with_extension(OWED)).unwrap();
        assert_eq!(self::left(&path, &key), [link(1)], "it is still there");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_more_is_read_than_there_may_be() {
        let (folder, key) = (folder("most"), key());
        let path = folder.join("connections");
        written(&path, &key, &[link(1), link(2), link(3)]);
        assert_eq!(open(&path, &key, 2).0, [link(1), link(2)]);
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
