# Two images from one build: `pgpassport` for production, `stand-ins` for the demo of docker-compose.yml. scripts/image builds
# them with docker, podman, or buildah, and where no registry can be reached with a base made of Debian packages.
ARG COMPILER=docker.io/library/rust:1.95-bookworm
# C library, certificates of public authorities for STS and the issuer, time zones; no shell and no package manager.
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
# `compiled` takes the binaries of this build, `ready` those that scripts/image puts into the context.
ARG BINARIES=compiled

FROM ${COMPILER} AS compiled
WORKDIR /source
COPY . .
RUN cargo build --locked --release --workspace --bins

FROM scratch AS ready
COPY target/release /source/target/release

# hadolint ignore=DL3006
FROM ${BINARIES} AS binaries

# hadolint ignore=DL3006
FROM ${BASE} AS stand-ins
COPY --from=binaries --chmod=0755 /source/target/release/aws-emulator /usr/local/bin/aws-emulator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/aws-emulator"]

# hadolint ignore=DL3006
FROM ${BASE} AS pgpassport
COPY --from=binaries --chmod=0755 /source/target/release/pgpassport /usr/local/bin/pgpassport
# The certificate authorities of RDS, those of `ca_file = "rds"`, for configurations that name a file.
COPY --chmod=0444 src/rds_roots.pem /usr/share/pgpassport/rds-global-bundle.pem
USER 65532:65532
EXPOSE 5432
# Asks admin.addr of the configuration, which has to be set for it. Kubernetes ignores this and has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/pgpassport", "health", "--config", "/etc/pgpassport/proxy.toml"]
ENTRYPOINT ["/usr/local/bin/pgpassport"]
CMD ["serve", "--config", "/etc/pgpassport/proxy.toml"]
