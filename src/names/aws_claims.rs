//! Claims that AWS STS reads from a token (IAM user guide, "Passing session tags using AssumeRoleWithWebIdentity").

/// Claim with the session tags, in the nested form.
pub const TAGS: &str = "https://aws.amazon.com/tags";

/// Member of [`TAGS`] with the tags themselves.
pub const PRINCIPAL_TAGS: &str = "principal_tags";

/// Beginning of the claim of one session tag, in the flat form.
pub const FLAT_TAGS: &str = "https://aws.amazon.com/tags/principal_tags/";

/// Session tag with the database user.
pub const USER_TAG: &str = "dbuser";

/// Claim of the session tag [`USER_TAG`], in the flat form.
pub const FLAT_USER_TAG: &str = "https://aws.amazon.com/tags/principal_tags/dbuser";

/// Claim with the roles that the person may assume.
pub const ROLES: &str = "https://aws.amazon.com/roles";

/// Claim with the source identity of the role session.
pub const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
