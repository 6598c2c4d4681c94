//! No two files of the product use each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::{sources, tree, without_comments};

/// The module of a file below `src`: `pool/key.rs` is `pool::key`, `pool/mod.rs` and `pool.rs` are `pool`.
fn module_of(file: &str) -> String {
    let path = file.strip_suffix(".rs").unwrap();
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

/// Every module that the code of `module` names, of those in `modules`.
fn used_modules<'m>(module: &str, code: &str, modules: &'m BTreeMap<String, String>) -> BTreeSet<&'m str> {
    let code = without_comments(code);
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let bases = [("crate::", ""), ("super::", parent), ("self::", module)];
    let named = bases.into_iter().flat_map(|(word, base)| {
        let base = if base.is_empty() { String::new() } else { format!("{base}::") };
        code.split(word).skip(1).flat_map(|rest| tree(&base, rest).0).collect::<Vec<_>>()
    });
    let module_in = |path: String| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]).collect::<Vec<_>>();
        ends.into_iter().rev().find_map(|end| modules.get_key_value(&path[..end]))
    };
    named.filter_map(module_in).map(|(used, _)| used.as_str()).filter(|used| *used != module).collect()
}

/// A module and the modules inside it are one part; of any two others at most one uses the other.
#[test]
fn no_two_files_use_each_other() {
    let modules: BTreeMap<String, String> =
        sources().into_iter().map(|(file, code)| (module_of(&file), code)).collect();
    let uses: BTreeMap<&str, BTreeSet<&str>> =
        modules.iter().map(|(module, code)| (&**module, used_modules(module, code, &modules))).collect();
    let inside =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"));
    let mut circles = BTreeSet::new();
    for (module, used) in &uses {
        for other in used {
            let nested = inside(module, other) || inside(other, module);
            if uses[other].contains(module) && !nested {
                circles.insert(((*module).min(*other), (*module).max(*other)));
            }
        }
    }
    assert_eq!(circles, BTreeSet::new());
    let arrows: usize = uses.values().map(BTreeSet::len).sum();
    assert!(arrows > 400, "only {arrows} uses were found");
}
