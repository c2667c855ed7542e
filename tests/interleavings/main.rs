//! The ring between two workers and the flags by which they wake each other, in every order in which
//! the steps of two or three threads can come, and with everything that the memory model allows.
//!
//! The code is the workers' own; atomics are loom's. A queue of crossbeam's kind stands for crossbeam's.

#[path = "../../engine/src/io/park.rs"]
mod park;
mod queue;
#[path = "../../engine/src/io/ring.rs"]
#[expect(dead_code, reason = "workers use more of it")]
mod ring;
mod worker;

mod atomic {
    pub(super) use loom::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    };
}

use loom::{sync::Arc, thread};

use self::{
    ring::ring,
    worker::{Bell, receive, send},
};

/// How often a thread is interrupted in its midst, at most: few bugs need more, and time grows with it.
const PREEMPTIONS_MAX: usize = 3;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

#[test]
fn a_worker_that_goes_to_sleep_misses_nothing() {
    check(|| {
        let bell = Arc::new(Bell::default());
        let (mut producer, mut consumer) = ring(4, 100);
        let others = Arc::clone(&bell);
        let sender = thread::spawn(move || {
            for message in 0..2 {
                producer.push(1, message);
                others.ring();
            }
        });
        assert_eq!(receive(&mut consumer, &bell, None, 2), [0, 1]);
        sender.join().unwrap();
    });
}

#[test]
fn one_of_two_that_wake_a_worker_is_enough() {
    check(|| {
        let bell = Arc::new(Bell::default());
        let (first, mut from_first) = ring(1, 100);
        let (second, mut from_second) = ring(1, 100);
        let senders = [(first, 'a'), (second, 'b')].map(|(mut producer, message)| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                producer.push(1, message);
                bell.ring();
            })
        });
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.extend(from_first.pop().into_iter().chain(from_second.pop()));
            if heard.len() < 2 {
                bell.sleep_unless(|| !from_first.is_empty() || !from_second.is_empty());
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_whenever_there_is_some() {
    check(|| {
        let (sleeps, wakes) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (mut producer, mut consumer) = ring(1, 100);
        let (own, others) = (Arc::clone(&sleeps), Arc::clone(&wakes));
        let sender = thread::spawn(move || send(&mut producer, &own, &others, 3));
        assert_eq!(receive(&mut consumer, &wakes, Some(&sleeps), 3), [0, 1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn bytes_that_are_taken_out_are_room_again() {
    check(|| {
        let (sleeps, wakes) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        // Room for two messages, but one is too heavy for another.
        let (mut producer, mut consumer) = ring(2, 1);
        let (own, others) = (Arc::clone(&sleeps), Arc::clone(&wakes));
        let sender = thread::spawn(move || send(&mut producer, &own, &others, 2));
        assert_eq!(receive(&mut consumer, &wakes, Some(&sleeps), 2), [0, 1]);
        sender.join().unwrap();
    });
}

#[test]
fn messages_and_bytes_are_bounded() {
    check(|| {
        let (mut producer, mut consumer) = ring(2, 100);
        producer.push(40, 'a');
        assert!(producer.has_room());
        producer.push(0, 'b');
        assert!(!producer.has_room(), "two messages");
        assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some('a'), Some('b'), None]);
        consumer.settle();
        producer.push(100, 'c');
        assert!(!producer.has_room(), "a hundred bytes");
        consumer.pop();
        consumer.settle();
        assert!(producer.has_room());
    });
}
