# One image with both services; a container's command says which of them it runs.
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep the dependencies, downloaded and compiled, from one build to the next. They have ids so as not to be
# shared with other projects, and are locked because cargo's own lock of the registry lies outside of it.
# The touch is there because cargo tells what changed by time alone: the cache may hold a later build of other sources,
# say of another branch, and what it holds would pass for fresh.
# What a cache mount holds is not in the image, hence the cp.
RUN --mount=type=cache,id=drover-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=drover-target,target=/src/target,sharing=locked \
    find bench config crates tests -type f -exec touch {} + \
    && cargo build --release --locked -p producer-api -p consumer-worker \
    && mkdir /out \
    && cp target/release/producer-api target/release/consumer-worker /out/

FROM debian:bookworm-slim
# Whom the handler http trusts over TLS.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /usr/local/bin/
# In numbers, so that a runtime can see that it is not root without reading /etc/passwd.
USER 10001:10001
# In exec form, so that the service is PID 1 and gets SIGTERM itself.
CMD ["producer-api"]
