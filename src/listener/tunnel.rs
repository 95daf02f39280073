//! Two byte streams tied together, after a switch of protocols (RFC 9110 §7.8).
//!
//! 1. Each direction is copied as it comes, through one bounded buffer, and its end is passed on.
//! 2. When one side has ended, the other has the idle time-out to end as well. One that fails takes the other with it.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::exchange::{Duplex, Tunnel};

const COPY_BUFFER: usize = 16 * 1024;

/// Ties the two sides of a switched connection together.
pub async fn tie(client: impl Duplex, read: Bytes, tunnel: Tunnel, idle: Duration) {
    let (to_app, to_client) = (Cell::new(0), Cell::new(0));
    let copying = async {
        let mut app = tunnel.io.await?;
        app.write_all(&read).await?;
        to_app.set(read.len() as u64);
        let (from_client, into_client) = tokio::io::split(client);
        let (from_app, into_app) = tokio::io::split(app);
        let mut up = pin!(copy(from_client, into_app, &to_app));
        let mut down = pin!(copy(from_app, into_client, &to_client));
        // When one side has ended, the other one has a while to end as well.
        tokio::select! {
            ended = &mut up => if ended.is_ok() { drop(timeout(idle, down).await) },
            ended = &mut down => if ended.is_ok() { drop(timeout(idle, up).await) },
        }
        io::Result::Ok(())
    };
    // A tunnel has no end of its own; when the process stops, the worker's grace period ends it.
    if let Err(error) = copying.await {
        tracing::debug!(%error, "tunnel broke off");
    }
    (tunnel.ended)(to_app.get(), to_client.get());
}

/// Copies one direction to its end, and says so to the other side.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut into: impl AsyncWrite + Unpin,
    moved: &Cell<u64>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let some = from.read(&mut buffer).await?;
        if some == 0 {
            return into.shutdown().await;
        }
        into.write_all(&buffer[..some]).await?;
        into.flush().await?;
        moved.set(moved.get() + some as u64);
    }
}
