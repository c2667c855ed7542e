//! A way to the relay that takes longer by a known time.
//!
//! A tool's latencies hold time of its own, which is the same whatever the way. So two tools that
//! measure the way agree in what a longer one adds.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// How often threads see whether they are still wanted.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of the largest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// Forwards datagrams to a server after a time, and its answers at once; ends when dropped.
#[derive(Debug)]
pub(super) struct Delay {
    ended: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// A datagram that waits.
struct Waiting {
    due: Instant,
    bytes: Vec<u8>,
    far: Arc<UdpSocket>,
}

impl Delay {
    /// What comes to `port` of this machine goes to `server` so much later.
    ///
    /// # Errors
    /// The port is taken.
    pub(super) fn start(port: u16, server: SocketAddr, delay: Duration) -> io::Result<Self> {
        let near = UdpSocket::bind(("127.0.0.1", port))?;
        near.set_read_timeout(Some(TICK))?;
        let ended = Arc::new(AtomicBool::new(false));
        let (wait, waiting) = mpsc::channel();
        let way = Way { near: Arc::new(near), server, delay, wait, ended: Arc::clone(&ended) };
        let threads =
            vec![thread::spawn(move || way.take()), thread::spawn(move || send_when_due(&waiting))];
        Ok(Self { ended, threads })
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to tell.
            _ = thread.join();
        }
    }
}

struct Way {
    near: Arc<UdpSocket>,
    server: SocketAddr,
    delay: Duration,
    wait: mpsc::Sender<Waiting>,
    ended: Arc<AtomicBool>,
}

impl Way {
    /// Takes what clients send. Each has a socket of its own to the server.
    fn take(self) {
        let mut bytes = vec![0; DATAGRAM_MAX];
        let mut fars = HashMap::new();
        while !self.ended.load(Ordering::Relaxed) {
            let Ok((length, client)) = self.near.recv_from(&mut bytes) else { continue };
            let due = Instant::now() + self.delay;
            let far = match fars.entry(client) {
                Entry::Occupied(far) => Arc::clone(far.get()),
                // As if it were lost, if there is no socket.
                Entry::Vacant(none) => match self.answering(client) {
                    Ok(far) => Arc::clone(none.insert(far)),
                    Err(_) => continue,
                },
            };
            if self.wait.send(Waiting { due, bytes: bytes[..length].to_vec(), far }).is_err() {
                return;
            }
        }
    }

    /// A socket to the server, whose answers go to a client.
    fn answering(&self, client: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0")?);
        far.connect(self.server)?;
        far.set_read_timeout(Some(TICK))?;
        let (near, heard, ended) =
            (Arc::clone(&self.near), Arc::clone(&far), Arc::clone(&self.ended));
        thread::spawn(move || {
            let mut bytes = vec![0; DATAGRAM_MAX];
            while !ended.load(Ordering::Relaxed) {
                if let Ok(length) = heard.recv(&mut bytes) {
                    // What cannot be sent is lost, as datagrams may be.
                    _ = near.send_to(&bytes[..length], client);
                }
            }
        });
        Ok(far)
    }
}

/// Each waits as long, so the first is due first.
fn send_when_due(waiting: &mpsc::Receiver<Waiting>) {
    while let Ok(Waiting { due, bytes, far }) = waiting.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What cannot be sent is lost, as datagrams may be.
        _ = far.send(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_later_in_order_and_answers_come_back() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = {
            let free = UdpSocket::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let delay = Duration::from_millis(30);
        let _way = Delay::start(port, server.local_addr().unwrap(), delay).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        let mut bytes = [0; 8];
        let began = Instant::now();
        for number in 0..3_u8 {
            client.send(&[number]).unwrap();
        }
        for number in 0..3_u8 {
            let (length, from) = server.recv_from(&mut bytes).unwrap();
            assert_eq!((length, bytes[0]), (1, number));
            server.send_to(&[number + 10], from).unwrap();
            assert_eq!(client.recv(&mut bytes).unwrap(), 1);
            assert_eq!(bytes[0], number + 10);
        }
        assert!(delay <= began.elapsed());
    }
}
