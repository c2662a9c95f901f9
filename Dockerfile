# One image with both services; the command of a container chooses one.
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep downloaded and compiled dependencies between builds. Their ids separate them from other projects; they are
# locked because cargo's lock of the registry lies outside of the registry's folder.
# Cargo detects changes by time alone, and the cache may hold a later build of another branch: the touch makes all sources newer.
# The image does not contain the content of cache mounts, so cp copies the binaries.
RUN --mount=type=cache,id=drover-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=drover-target,target=/src/target,sharing=locked \
    find bench config crates tests -type f -exec touch {} + \
    && cargo build --release --locked -p producer-api -p consumer-worker \
    && mkdir /out \
    && cp target/release/producer-api target/release/consumer-worker /out/

FROM debian:bookworm-slim
# The handler http checks certificates by these authorities.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /usr/local/bin/
# A number shows a runtime that the user is not root, without /etc/passwd.
USER 10001:10001
# The exec form makes the service PID 1, so that it gets SIGTERM itself.
CMD ["producer-api"]
