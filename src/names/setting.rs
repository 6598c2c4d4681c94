//! Names of PostgreSQL settings: the canonical name of each setting, and settings with the same effect.

/// Old names that the server still accepts, each with the current name (`map_old_guc_names`,
/// src/backend/utils/misc/guc.c, up to PostgreSQL 18).
const OLD_NAMES: [(&str, &str); 3] =
    [("sort_mem", "work_mem"), ("vacuum_mem", "maintenance_work_mem"), ("ssl_ecdh_curve", "ssl_groups")];

/// Settings that each change the user of the session (manual, "SET ROLE" and "SET SESSION AUTHORIZATION").
const SESSION_USER: [&str; 2] = ["role", "session_authorization"];

/// Canonical name of a setting: ASCII lower-case, as the server compares (`guc_name_compare`), and the
/// current name of a renamed setting.
pub fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match OLD_NAMES.iter().find(|(old, _)| *old == name) {
        Some((_, new)) => (*new).to_owned(),
        None => name,
    }
}

/// Canonical names of the setting and of all settings with the same effect, which have to be forbidden
/// together. Hyphens count as underscores, as on the server's command line.
pub fn with_equivalents(name: &str) -> Vec<String> {
    let name = canonical(&name.replace('-', "_"));
    if SESSION_USER.contains(&name.as_str()) {
        return SESSION_USER.map(str::to_owned).to_vec();
    }
    vec![name]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u3_a_setting_has_one_name() {
        for (spelling, name) in [
            ("Search_Path", "search_path"),
            ("sort_mem", "work_mem"),
            ("SORT_MEM", "work_mem"),
            ("Vacuum_Mem", "maintenance_work_mem"),
            ("ssl_ecdh_curve", "ssl_groups"),
            ("work_mem", "work_mem"),
            ("sort_memory", "sort_memory"),
        ] {
            assert_eq!(canonical(spelling), name);
        }
    }

    #[test]
    fn u3_one_way_to_become_another_user_forbids_the_other() {
        for name in ["role", "ROLE", "session_authorization", "session-authorization"] {
            assert_eq!(with_equivalents(name), ["role", "session_authorization"]);
        }
        assert_eq!(with_equivalents("sort-mem"), ["work_mem"]);
        assert_eq!(with_equivalents("search_path"), ["search_path"]);
    }
}
