//! How many connections may be open, in all and per address.
//!
//! 1. At `max_connections` a worker stops accepting: further clients wait in the kernel's queue, nothing is refused.
//! 2. One peer address beyond its own bound is closed at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Counts open connections over all workers.
#[derive(Debug)]
pub struct Admission {
    most: AtomicUsize,
    most_per_address: AtomicUsize,
    open: AtomicUsize,
    freed: Notify,
    addresses: Mutex<HashMap<IpAddr, usize, ahash::RandomState>>,
}

/// An open connection; counted until dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Admission {
    /// Nothing is open yet.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(most),
            most_per_address: AtomicUsize::new(most_per_address),
            open: AtomicUsize::new(0),
            freed: Notify::new(),
            addresses: Mutex::default(),
        })
    }

    /// New bounds; connections that are open stay.
    pub fn bound(&self, most: usize, most_per_address: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_address.store(most_per_address, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until another connection may be accepted.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.open() < self.most.load(Ordering::Relaxed) {
                return;
            }
            freed.await;
        }
    }

    /// Counts a connection that was accepted from `address`; `None` if that address has its fill.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Admitted> {
        let most = self.most_per_address.load(Ordering::Relaxed);
        // Where one address may have all of them, nothing needs counting by address.
        let address = address.filter(|_| most < self.most.load(Ordering::Relaxed));
        if let Some(address) = address {
            let mut addresses = self.addresses.lock();
            let count = addresses.entry(address).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Admitted { admission: self.clone(), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let admission = &self.admission;
        if let Some(address) = self.address {
            let mut addresses = admission.addresses.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
        let before = admission.open.fetch_sub(1, Ordering::Relaxed);
        if before >= admission.most.load(Ordering::Relaxed) {
            admission.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_its_bound_is_not_admitted_until_one_of_its_connections_ends() {
        let admission = Admission::new(10, 2);
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        let first = admission.admit(address);
        let second = admission.admit(address);
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit(address).is_none());
        assert!(admission.admit(Some(IpAddr::from([127, 0, 0, 2]))).is_some());
        drop(first);
        assert!(admission.admit(address).is_some());
    }

    #[tokio::test]
    async fn a_full_house_lets_nobody_in_until_somebody_leaves() {
        let admission = Admission::new(1, 1);
        let only = admission.admit(None);
        let mut room = Box::pin(admission.room());
        assert!(futures_poll(room.as_mut()).await.is_pending());
        drop(only);
        room.await;
        assert_eq!(admission.open(), 0);
    }

    async fn futures_poll(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> std::task::Poll<()> {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
    }
}
