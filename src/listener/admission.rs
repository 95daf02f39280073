//! How many connections may be open, in all and per address.
//!
//! 1. At the bound on all, workers stop accepting: further clients wait in the kernel's queue, nothing is refused. One that
//!    a worker was waiting for at that moment waits with the worker.
//! 2. One peer address beyond its own bound is closed at once. An IPv6 address counts by its network of `ipv6_prefix`
//!    bits, since that is what one subscriber has.
//! 3. Whose address a PROXY protocol header tells counts in all at once, and by address when it has been told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// Of one peer address.
    pub per_address: usize,
    /// Bits of an IPv6 address that tell one peer from another.
    pub ipv6_prefix: u32,
}

/// Counts open connections over all workers.
#[derive(Debug)]
pub struct Admission {
    all: AtomicUsize,
    per_address: AtomicUsize,
    ipv6_prefix: AtomicU32,
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
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            all: AtomicUsize::new(bounds.all),
            per_address: AtomicUsize::new(bounds.per_address),
            ipv6_prefix: AtomicU32::new(bounds.ipv6_prefix),
            open: AtomicUsize::new(0),
            freed: Notify::new(),
            addresses: Mutex::default(),
        })
    }

    /// New bounds; connections that are open stay.
    pub fn bound(&self, bounds: Bounds) {
        self.all.store(bounds.all, Ordering::Relaxed);
        self.per_address.store(bounds.per_address, Ordering::Relaxed);
        self.ipv6_prefix.store(bounds.ipv6_prefix, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until another connection may be admitted; another worker may be quicker then.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.open() < self.all.load(Ordering::Relaxed) {
                return;
            }
            freed.await;
        }
    }

    /// Counts a connection, from nobody yet; `None` if there is no room.
    pub fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let all = self.all.load(Ordering::Relaxed);
        let one_more = |open| (open < all).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Admitted { admission: self.clone(), address: None })
    }

    fn group(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let kept = u128::MAX.checked_shl(128 - self.ipv6_prefix.load(Ordering::Relaxed)).unwrap_or_default();
                Ipv6Addr::from_bits(address.to_bits() & kept).into()
            }
        }
    }
}

impl Admitted {
    /// Counts the connection by the address of its peer, once; whether that address had not had its fill. A peer without
    /// an address is not counted.
    pub fn is_within_bound_of(&mut self, address: Option<IpAddr>) -> bool {
        let admission = &self.admission;
        let most = admission.per_address.load(Ordering::Relaxed);
        // Where one address may have all of them, nothing needs counting by address.
        let Some(address) = address.filter(|_| most < admission.all.load(Ordering::Relaxed)) else { return true };
        let address = admission.group(address);
        let mut addresses = admission.addresses.lock();
        let count = addresses.entry(address).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        drop(addresses);
        self.address = Some(address);
        true
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
        if before >= admission.all.load(Ordering::Relaxed) {
            admission.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(all: usize, per_address: usize) -> Arc<Admission> {
        Admission::new(Bounds { all, per_address, ipv6_prefix: 64 })
    }

    fn from(admission: &Arc<Admission>, address: &str) -> Option<Admitted> {
        let mut admitted = admission.admit()?;
        admitted.is_within_bound_of(Some(address.parse().unwrap())).then_some(admitted)
    }

    #[test]
    fn an_address_beyond_its_bound_is_not_admitted_until_one_of_its_connections_ends() {
        let admission = admission(10, 2);
        let first = from(&admission, "127.0.0.1");
        let second = from(&admission, "127.0.0.1");
        assert!(first.is_some() && second.is_some());
        assert!(from(&admission, "127.0.0.1").is_none());
        assert!(from(&admission, "::ffff:127.0.0.1").is_none(), "the same one in another spelling");
        assert!(from(&admission, "127.0.0.2").is_some());
        drop(first);
        assert!(from(&admission, "127.0.0.1").is_some());
        drop(second);
        assert_eq!((admission.open(), admission.addresses.lock().len()), (0, 0), "nobody is remembered");
    }

    #[test]
    fn ipv6_counts_by_its_prefix() {
        let admission = admission(10, 1);
        let _first = from(&admission, "2001:db8:0:1::1");
        assert!(from(&admission, "2001:db8:0:1:ffff::9").is_none());
        assert!(from(&admission, "2001:db8:0:2::1").is_some());
        for (prefix, alike) in [(128, false), (48, true), (1, true)] {
            admission.bound(Bounds { all: 10, per_address: 1, ipv6_prefix: prefix });
            let _first = from(&admission, "2001:db8:0:3::1");
            assert_eq!(from(&admission, "2001:db8:0:4::1").is_none(), alike, "/{prefix}");
        }
    }

    #[tokio::test]
    async fn a_full_house_lets_nobody_in_until_somebody_leaves() {
        let admission = admission(1, 1);
        let only = admission.admit();
        assert!(only.is_some() && admission.admit().is_none());
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
