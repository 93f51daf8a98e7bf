# The four programs, an image for each, from nothing: the program, what it links, no shell, no root.
#
#   docker build --target weft-proxy -t weft-proxy .                                  compiles first
#   scripts/rootfs target/release && docker build --build-arg FILES=prebuilt …        takes what is compiled already
#
# Data and identities lie in /var/lib/weft, which belongs to the user that everything runs as; the root may be read-only.

ARG FILES=compiled

FROM rust:1.90-bookworm AS compiled
RUN apt-get update && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release --workspace --bins && scripts/rootfs target/release /rootfs

FROM scratch AS prebuilt
COPY target/rootfs /rootfs

FROM ${FILES} AS files

FROM scratch AS weft-control-plane
COPY --from=files /rootfs/weft-control-plane /
COPY --from=files --chown=65532:65532 /rootfs/state /var/lib
USER 65532:65532
ENV WEFT_DATA_DIR=/var/lib/weft
VOLUME /var/lib/weft
EXPOSE 7400 7401
HEALTHCHECK --interval=2s --timeout=5s --start-period=30s CMD ["/weft-control-plane", "health"]
ENTRYPOINT ["/weft-control-plane"]

FROM scratch AS weft-proxy
COPY --from=files /rootfs/weft-proxy /
COPY --from=files --chown=65532:65532 /rootfs/state /var/lib
USER 65532:65532
ENV WEFT_IDENTITY_DIR=/var/lib/weft
VOLUME /var/lib/weft
EXPOSE 15006
HEALTHCHECK --interval=2s --timeout=5s --start-period=30s CMD ["/weft-proxy", "health"]
ENTRYPOINT ["/weft-proxy"]
CMD ["run"]

# The command line, with weft-proxy beside it: that is what joins for a stock Envoy.
FROM scratch AS weft
COPY --from=files /rootfs/weft-proxy /
COPY --from=files /rootfs/weft /
COPY --from=files --chown=65532:65532 /rootfs/state /var/lib
USER 65532:65532
WORKDIR /var/lib/weft
ENTRYPOINT ["/weft"]

# An application with its sidecar in one container, which is what scales: yours is copied to where the demo is.
FROM weft AS weft-run-demo
COPY --from=files /rootfs/weft-demo /
HEALTHCHECK --interval=2s --timeout=5s --start-period=30s CMD ["/weft-proxy", "health"]
ENTRYPOINT ["/weft", "run"]

FROM scratch AS weft-demo
COPY --from=files /rootfs/weft-demo /
USER 65532:65532
ENTRYPOINT ["/weft-demo"]
