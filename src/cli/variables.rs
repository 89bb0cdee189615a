//! Variables of the environment with names that are nearly coracle's own.

use std::ffi::OsString;

/// The variables that the command reads.
const KNOWN: [&str; 2] = ["CORACLE_CLUSTER_NAME", "CORACLE_IMAGE_SOURCE"];
/// More letters than this are no slip of the finger.
const MAX_SLIPS: usize = 3;

/// A warning for each variable that was probably meant for coracle, which does not read it.
pub(crate) fn warnings(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let unread = |name: OsString| {
        let name = name.into_string().ok().filter(|name| name.starts_with("CORACLE_"))?;
        let is_close = |known: &&str| {
            known.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('_'))
                || strsim::damerau_levenshtein(known, &name) <= MAX_SLIPS
        };
        let meant = KNOWN.iter().find(|known| is_close(known)).filter(|known| **known != name)?;
        Some(format!("`{name}` is set, but coracle does not read it; did you mean `{meant}`?"))
    };
    names.filter_map(unread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nearly_right_is_worth_a_warning() {
        let of = |names: &[&str]| warnings(names.iter().map(OsString::from));
        assert_eq!(
            of(&["CORACLE_CLUSTER_NAME", "CORACLE_IMAGE_SOURCE", "CORACLE_HOME", "CORACLE_TEST_CLUSTER", "PATH"]),
            [""; 0]
        );
        let found = of(&["CORACLE_CLUSTER", "CORACLE_IMAGES_SOURCE", "CORACLE_CLUSTERNAME"]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            found[0],
            "`CORACLE_CLUSTER` is set, but coracle does not read it; did you mean `CORACLE_CLUSTER_NAME`?"
        );
    }
}
