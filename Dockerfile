# sidegate, in three steps: the crates (cached until Cargo.toml or Cargo.lock change), the binary, the image.

FROM rust:1-bookworm AS builder
# aws-lc (TLS) and mimalloc are C: the base image has the compiler they need.
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# An empty program with our dependencies: all crates are built in a layer of their own.
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked --bin sidegate \
 && rm -rf src
COPY config config
COPY src src
# Cargo goes by the time of change; COPY keeps the old one, so say that these are newer than the empty program.
RUN find src config -type f -exec touch {} + \
 && cargo build --release --locked --bin sidegate

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 sidegate \
 && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin sidegate
COPY --from=builder /build/target/release/sidegate /usr/local/bin/sidegate
# Listens on 0.0.0.0:8080. Mount your own file over it.
COPY config/sidegate.toml /etc/sidegate/sidegate.toml
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["sidegate", "health"]
ENTRYPOINT ["sidegate"]
CMD ["run", "--config", "/etc/sidegate/sidegate.toml"]
