//! Names of PostgreSQL settings: one spelling for each setting, and the settings that do the same.

/// Old names that the server still takes, each with its setting (`map_old_guc_names`,
/// src/backend/utils/misc/guc.c, up to PostgreSQL 18).
const OLD_NAMES: [(&str, &str); 3] =
    [("sort_mem", "work_mem"), ("vacuum_mem", "maintenance_work_mem"), ("ssl_ecdh_curve", "ssl_groups")];

/// Settings of which each changes the user that the session acts as (manual, "SET ROLE" and "SET SESSION
/// AUTHORIZATION").
const SESSION_USER: [&str; 2] = ["role", "session_authorization"];

/// The one spelling of a setting's name: ASCII lower-case, as the server compares (`guc_name_compare`), and the new
/// name of a setting that had another one.
pub fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match OLD_NAMES.iter().find(|(old, _)| *old == name) {
        Some((_, new)) => (*new).to_owned(),
        None => name,
    }
}

/// The canonical names of all settings that have to be forbidden so that nothing does what `name` does: the setting
/// itself, and others with the same effect. Hyphens count as underscores, as on the server's command line.
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
