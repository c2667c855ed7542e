//! A path whose far end is not where it was: what an address translator does.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Forwards datagrams between one client and one server.
#[derive(Debug)]
pub struct Forwarder {
    port: u16,
    path: Arc<Path>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Path {
    server: SocketAddr,
    near: UdpSocket,
    far: Mutex<Arc<UdpSocket>>,
    client: Mutex<Option<SocketAddr>>,
    closed: AtomicBool,
    /// Whether datagrams vanish.
    broken: AtomicBool,
    /// Whether datagrams to the client vanish.
    deaf: AtomicBool,
    /// Datagrams that the client has sent.
    said: AtomicUsize,
    /// Datagrams longer than this vanish.
    narrow: AtomicUsize,
    /// How often nothing has come from the server for a tick.
    quiet: AtomicUsize,
}

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(TICK)).unwrap();
    socket
}

impl Forwarder {
    pub fn new(server_port: u16) -> Self {
        let near = socket();
        let port = near.local_addr().unwrap().port();
        let path = Arc::new(Path {
            server: SocketAddr::new([127, 0, 0, 1].into(), server_port),
            near,
            far: Mutex::new(Arc::new(socket())),
            client: Mutex::new(None),
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            said: AtomicUsize::new(0),
            narrow: AtomicUsize::new(usize::MAX),
            quiet: AtomicUsize::new(0),
        });
        let (there, back) = (Arc::clone(&path), Arc::clone(&path));
        let threads =
            vec![thread::spawn(move || there.forward()), thread::spawn(move || back.backward())];
        Self { port, path, threads }
    }

    /// Where a client finds it.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on the server sees another port.
    pub fn rebind(&self) {
        *self.path.far.lock().unwrap() = Arc::new(socket());
    }

    /// From now on nothing passes.
    pub fn cut(&self) {
        self.path.broken.store(true, Ordering::SeqCst);
    }

    /// From now on everything passes again.
    pub fn mend(&self) {
        self.path.broken.store(false, Ordering::SeqCst);
    }

    /// Whether the client hears nothing from now on.
    pub fn deafen(&self, deaf: bool) {
        self.path.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Waits until the client has sent so many more datagrams.
    pub fn wait_for_words(&self, count: usize) {
        let wanted = self.path.said.load(Ordering::SeqCst) + count;
        let deadline = Instant::now() + PATIENCE;
        while self.path.said.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < deadline, "the client is silent");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until it has taken all that the server has sent so far.
    pub fn wait_until_quiet(&self) {
        // The first may be of a moment before it was sent.
        let wanted = self.path.quiet.load(Ordering::SeqCst) + 2;
        let deadline = Instant::now() + PATIENCE;
        while self.path.quiet.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < deadline, "the server goes on");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// From now on no datagram longer than this passes.
    pub fn narrow(&self, length: usize) {
        self.path.narrow.store(length, Ordering::Relaxed);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.path.closed.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Path {
    fn passes(&self, length: usize) -> bool {
        !self.broken.load(Ordering::SeqCst) && length <= self.narrow.load(Ordering::Relaxed)
    }

    fn forward(&self) {
        let mut bytes = [0; 65_536];
        while !self.closed.load(Ordering::Relaxed) {
            let Ok((length, from)) = self.near.recv_from(&mut bytes) else { continue };
            *self.client.lock().unwrap() = Some(from);
            let far = Arc::clone(&self.far.lock().unwrap());
            if self.passes(length) {
                // A socket error is a lost datagram.
                drop(far.send_to(&bytes[..length], self.server));
            }
            self.said.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn backward(&self) {
        let mut bytes = [0; 65_536];
        while !self.closed.load(Ordering::Relaxed) {
            let far = Arc::clone(&self.far.lock().unwrap());
            let Ok(length) = far.recv(&mut bytes) else {
                self.quiet.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            let client = *self.client.lock().unwrap();
            if let Some(client) = client
                && !self.deaf.load(Ordering::SeqCst)
                && self.passes(length)
            {
                drop(self.near.send_to(&bytes[..length], client));
            }
        }
    }
}
