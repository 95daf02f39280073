//! `sidegate health`: asks the admin listener whether it is ready, for Docker's `HEALTHCHECK`.

use std::process::ExitCode;

use super::admin::ask;

/// What is asked.
const READY: &str = "GET /readyz";

/// Asks the admin listener at `address` (`host:port`), prints one line, and exits with 0 if it is ready, else 1.
pub fn health(address: &str) -> ExitCode {
    match ask(address, READY, None) {
        Ok((200, _)) => {
            println!("sidegate at {address} is ready");
            ExitCode::SUCCESS
        }
        Ok((status, content)) => {
            println!("sidegate at {address} is not ready: {status} {}", content);
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("sidegate at {address} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;

    use super::*;
    use crate::admin::{self, Health, State};
    use crate::telemetry::registry::Registry;

    #[test]
    fn it_says_what_the_admin_listener_says() {
        let health = Health::new();
        let orders: admin::Orders = Box::new(|_| tokio::sync::oneshot::channel().1);
        let state =
            State { registry: Registry::new(1), health: health.clone(), reload: Box::new(|| Ok(Vec::new())), orders };
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = admin::Settings { listen, ..admin::Settings::default() };
        let handle = admin::spawn(&settings, Arc::new(state)).unwrap().unwrap();
        let address = handle.address.to_string();
        let (status, content) = ask(&address, READY, None).unwrap();
        assert!(status == 503 && content.contains("\"status\":\"starting\"}"), "{content}");
        assert_eq!(super::health(&address), ExitCode::FAILURE);
        health.set_applied();
        assert_eq!(ask(&format!("0.0.0.0:{}", handle.address.port()), READY, None).unwrap().0, 200);
        assert_eq!(super::health(&address), ExitCode::SUCCESS);
        handle.stop();
        assert_eq!(super::health(&address), ExitCode::FAILURE);
    }

    #[test]
    fn a_listener_that_says_nothing_sensible_is_not_ready() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            stream.write_all(b"220 mail.test\r\n").unwrap();
        });
        assert_eq!(ask(&address, READY, None).unwrap_err().to_string(), "this is not an admin listener");
        other.join().unwrap();
    }

    #[test]
    fn a_listener_that_says_nothing_at_all_is_given_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(ask(&address, READY, None).unwrap_err().to_string(), "no answer within 2 s");
    }
}
