//! Stand-ins for issuer, STS and RDS gate.
