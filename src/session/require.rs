//! What a route demands of a login besides that it is one. Pure.
//!
//! 1. All requirements must be met; each is, if the attribute's text is one of those that are listed, to the byte.
//! 2. An attribute that is a list meets it by any of its items. One that the record lacks does not.
//! 3. It is about who is logged in, in every mode: where a session is optional, who is not logged in passes as nobody, and a login
//!    that lacks what is demanded is refused. So is, with 401, who sends something that cannot be read (`verdict`).
//!
//! # Why
//! Rule 3: such a login could only pass as what it is, which was forbidden, or as nobody, which would look like a logout. What we
//! cannot read the app may: it strips quotes, or takes the other one of two cookies. A spelling would switch the demand off.

use super::settings::Requirement;
use crate::exchange::Principal;

/// The first of `require` that `principal` does not meet.
pub fn missed<'r>(require: &'r [Requirement], principal: &Principal) -> Option<&'r Requirement> {
    let meets = |Requirement { attribute, values }: &Requirement| {
        principal.texts(attribute).any(|text| values.iter().any(|value| value == text))
    };
    require.iter().find(|requirement| !meets(requirement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed_by(attributes: &[(&str, &str)], require: &[(&str, &[&str])]) -> Option<String> {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        let principal = Principal {
            session: "web".into(),
            user: "5".into(),
            session_digest: "".into(),
            session_key: String::new(),
            attributes: attributes.iter().map(owned).collect(),
        };
        let requirement = |(attribute, values): &(&str, &[&str])| Requirement {
            attribute: (*attribute).to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let require: Vec<_> = require.iter().map(requirement).collect();
        missed(&require, &principal).map(|requirement| requirement.attribute.clone())
    }

    #[test]
    fn every_requirement_is_met_by_one_of_its_values_to_the_byte() {
        let staff: &[(&str, &[&str])] = &[("role", &["admin", "staff"]), ("org.plan", &["pro"])];
        assert_eq!(missed_by(&[("role", "staff"), ("org.plan", "pro")], staff), None);
        assert_eq!(missed_by(&[("role", "staff"), ("org.plan", "free")], staff).as_deref(), Some("org.plan"));
        for role in ["Admin", "admin ", "adm", "admin,staff", ""] {
            assert_eq!(missed_by(&[("role", role), ("org.plan", "pro")], staff).as_deref(), Some("role"), "{role}");
        }
        assert_eq!(missed_by(&[("org.plan", "pro")], staff).as_deref(), Some("role"), "it has none");
        assert_eq!(missed_by(&[], &[]), None);
    }

    #[test]
    fn a_list_meets_it_by_any_item() {
        let admins: &[(&str, &[&str])] = &[("roles", &["admin"])];
        assert_eq!(missed_by(&[("roles", "user"), ("roles", "admin")], admins), None);
        assert_eq!(missed_by(&[("roles", "user"), ("role", "admin")], admins).as_deref(), Some("roles"));
    }
}
