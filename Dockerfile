# Two images from one build: `pgpassport` for production, `stand-ins` for the demo of docker-compose.yml.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --release --workspace --bins

# No shell, no package manager; the certificates of public authorities are in it, for STS and the issuer.
FROM gcr.io/distroless/cc-debian12:nonroot AS stand-ins
COPY --from=build /source/target/release/aws-emulator /usr/local/bin/aws-emulator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/aws-emulator"]

FROM gcr.io/distroless/cc-debian12:nonroot AS pgpassport
COPY --from=build /source/target/release/pgpassport /usr/local/bin/pgpassport
# The certificate authorities of RDS and Aurora in all Regions, for cluster.ca_file.
ADD --chmod=0444 https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem /usr/share/pgpassport/rds-global-bundle.pem
USER 65532:65532
EXPOSE 5432
# Asks admin.addr of the configuration, which has to be set for it. Kubernetes ignores this and has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/pgpassport", "health", "--config", "/etc/pgpassport/proxy.toml"]
ENTRYPOINT ["/usr/local/bin/pgpassport"]
CMD ["serve", "--config", "/etc/pgpassport/proxy.toml"]
