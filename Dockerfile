# This image has both services; the command of a container chooses one of them.
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# The caches keep downloaded and compiled dependencies between builds. The ids of the caches separate Drover's caches from those
# of other projects. Two builds of the image never use a cache at the same time (sharing=locked), because cargo's lock of the
# registry lies outside the cached folder. Cargo detects changes by time alone, and the cache may hold a later build of another
# branch, so touch makes all sources newer. Cache mounts are not part of the image, so cp copies the binaries.
RUN --mount=type=cache,id=drover-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=drover-target,target=/src/target,sharing=locked \
    find bench config crates examples tests -type f -exec touch {} + \
    && cargo build --release --locked -p producer-api -p consumer-worker \
    && mkdir -p /out/bin /out/share/doc/drover \
    && cp target/release/producer-api target/release/consumer-worker /out/bin/ \
    && scripts/licenses.sh >/out/share/doc/drover/LICENSES-OF-DEPENDENCIES \
    && cp LICENSE* /out/share/doc/drover/

FROM debian:bookworm-slim
# The worker's handler `http` trusts the certificate authorities of the package ca-certificates.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /usr/local/
# The user is given by number, so that a container runtime knows without /etc/passwd that the user is not root.
USER 10001:10001
# The exec form of CMD starts the service without a shell, so that the service itself gets SIGTERM.
CMD ["producer-api"]
