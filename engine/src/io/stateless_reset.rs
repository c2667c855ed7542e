//! Stateless resets: the word of a server that does not know a connection.
//!
//! A token is a function of a secret and of the connection id, so that a restarted server can end
//! the connections of the one before (RFC 9000 section 10.3).

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use boring::{error::ErrorStack, hash::hmac_sha256, rand::rand_bytes, sha::sha256};

use super::{cid::Cid, error::Error};

/// The least secret bytes of a key file.
const SECRET_MIN: usize = 32;
/// A reset is this long, or a byte shorter than what it answers: so two endpoints that know
/// nothing of each other do not answer for ever.
const LENGTH_MAX: usize = 43;
/// The least length: 5 unpredictable bytes and the token.
const LENGTH_MIN: usize = 21;
const TOKEN: usize = 16;

/// The secret from which every token is derived.
#[derive(Clone)]
pub(super) struct ResetKey([u8; 32]);

impl ResetKey {
    /// A secret for this process alone.
    pub(super) fn random() -> Result<Self, ErrorStack> {
        let mut key = [0; 32];
        rand_bytes(&mut key)?;
        Ok(Self(key))
    }

    /// The secret in a file.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |reason| Error::File { path: path.to_owned(), reason };
        let secret = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        if secret.len() < SECRET_MIN {
            return Err(wrong(format!(
                "a stateless reset key has at least {SECRET_MIN} bytes; make one with: \
                 head -c 32 /dev/urandom > FILE"
            )));
        }
        if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            tracing::warn!(path = %path.display(), "others may read the stateless reset key");
        }
        Ok(Self(sha256(&secret)))
    }

    /// The token of a connection id.
    pub(super) fn token(&self, cid: &Cid) -> Result<u128, ErrorStack> {
        let [token @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            hmac_sha256(&self.0, cid)?;
        Ok(u128::from_be_bytes(token))
    }

    /// What shows that bytes were written by who has this key.
    pub(super) fn seal(&self, bytes: &[u8]) -> Result<[u8; 32], ErrorStack> {
        // Longer than any id, so that it is nobody's token.
        hmac_sha256(&self.0, bytes)
    }

    /// The secret in a file, which is made if it is not there.
    pub(super) fn load_or_make(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            let mut secret = [0; SECRET_MIN];
            rand_bytes(&mut secret)?;
            make(path, &secret).map_err(|error| Error::File {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        }
        Self::load(path)
    }

    /// Writes the answer to a packet of `trigger` bytes to an unknown id; says how long it is.
    ///
    /// `None` if the packet is too short to be answered.
    pub(super) fn write(&self, out: &mut [u8], cid: &Cid, trigger: usize) -> Option<usize> {
        let length = LENGTH_MAX.min(trigger.checked_sub(1)?);
        if length < LENGTH_MIN {
            return None;
        }
        let out = out.get_mut(..length)?;
        rand_bytes(out).ok()?;
        // It looks like a packet with a short header: form bit clear, fixed bit set.
        out[0] = out[0] & 0x3f | 0x40;
        out[length - TOKEN..].copy_from_slice(&self.token(cid).ok()?.to_be_bytes());
        Some(length)
    }
}

/// Makes a file of a secret, unless it is there. It is whole as soon as it is there: a process that is
/// killed meanwhile leaves no half of it to the next one.
fn make(path: &Path, secret: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // Of a process that had this one's number.
    fs::remove_file(&new).ok();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(secret)?;
    file.sync_all()?;
    // Another process may have been faster; what counts is what is there.
    let made = match fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    fs::remove_file(&new)?;
    made
}

/// Answers per second to those who have proven nothing.
#[derive(Debug)]
pub(super) struct Limiter {
    per_second: u32,
    left: u32,
    since: Instant,
}

impl Limiter {
    /// A limiter to so many a second.
    pub(super) const fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: per_second, since: now }
    }

    /// Whether one more may be sent.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.left = self.per_second;
        }
        let admitted = 0 < self.left;
        self.left = self.left.saturating_sub(1);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_key_and_id() {
        let (key, other) = (ResetKey([1; 32]), ResetKey([2; 32]));
        assert_eq!(key.token(&[3; 16]).unwrap(), ResetKey([1; 32]).token(&[3; 16]).unwrap());
        assert_ne!(key.token(&[3; 16]).unwrap(), key.token(&[4; 16]).unwrap());
        assert_ne!(key.token(&[3; 16]).unwrap(), other.token(&[3; 16]).unwrap());
    }

    #[test]
    fn a_reset_is_shorter_than_what_it_answers() {
        let key = ResetKey([1; 32]);
        let mut out = [0; 64];
        for trigger in 0..2_000 {
            let length = key.write(&mut out, &[3; 16], trigger);
            match length {
                None => assert!(trigger <= LENGTH_MIN),
                Some(length) => {
                    assert!((LENGTH_MIN..=LENGTH_MAX).contains(&length) && length < trigger);
                    assert_eq!(out[0] & 0xc0, 0x40);
                    let token = key.token(&[3; 16]).unwrap().to_be_bytes();
                    assert_eq!(out[length - TOKEN..length], token);
                }
            }
        }
    }

    #[test]
    fn a_key_is_made_once_whole_and_for_nobody_else() {
        let folder = std::env::temp_dir().join(format!("aip-reset-key-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("reset.key");
        let made = ResetKey::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ResetKey::load_or_make(&path).unwrap().0, made.0);
        // Another process was faster.
        make(&path, &[1; SECRET_MIN]).unwrap();
        assert_eq!(ResetKey::load(&path).unwrap().0, made.0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_limiter_refills_each_second() {
        let now = Instant::now();
        let mut limiter = Limiter::new(2, now);
        assert_eq!(
            [limiter.admit(now), limiter.admit(now), limiter.admit(now)],
            [true, true, false]
        );
        let later = now + Duration::from_secs(1);
        assert!(limiter.admit(later));
    }
}
