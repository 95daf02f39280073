//! The users of the sample app, in memory.
//!
//! 1. At most [`MOST`] users: a demo left running does not grow.
//! 2. What a request says about a user is checked before anything is changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most users that are kept.
pub const MOST: usize = 1000;

/// The most characters in a name or an e-mail address.
const LONGEST: usize = 100;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Given when the user is created; never given twice.
    pub id: u64,
    /// What to call them.
    pub name: String,
    /// How to reach them.
    pub email: String,
}

/// What a request says about a user; what it leaves out is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    name: Option<String>,
    email: Option<String>,
}

/// Why a user was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no user of that number.
    Unknown,
    /// The draft does not say enough, or too much; says what.
    Invalid(&'static str),
    /// There are [`MOST`] users already.
    Full,
}

/// All users.
#[derive(Debug)]
pub struct Users {
    by_id: BTreeMap<u64, User>,
    last: u64,
}

impl Users {
    /// Alice, Bob and Carol.
    pub fn sample() -> Self {
        let mut users = Self { by_id: BTreeMap::new(), last: 0 };
        for (name, email) in
            [("Alice", "alice@example.org"), ("Bob", "bob@example.org"), ("Carol", "carol@example.org")]
        {
            users.insert(name.to_owned(), email.to_owned());
        }
        users
    }

    /// All of them, in the order of their numbers.
    pub fn list(&self) -> Vec<&User> {
        self.by_id.values().collect()
    }

    /// The user of that number.
    pub fn find(&self, id: u64) -> Option<&User> {
        self.by_id.get(&id)
    }

    /// Adds a user; a name is needed.
    pub fn create(&mut self, draft: Draft) -> Result<User, Refusal> {
        draft.check()?;
        let name = draft.name.ok_or(Refusal::Invalid("a user needs a name"))?;
        if self.by_id.len() >= MOST {
            return Err(Refusal::Full);
        }
        Ok(self.insert(name, draft.email.unwrap_or_default()))
    }

    /// Puts the draft in the user's place (PUT): a name is needed, what is left out is emptied.
    pub fn replace(&mut self, id: u64, draft: Draft) -> Result<User, Refusal> {
        draft.check()?;
        let user = self.by_id.get_mut(&id).ok_or(Refusal::Unknown)?;
        user.name = draft.name.ok_or(Refusal::Invalid("a user needs a name"))?;
        user.email = draft.email.unwrap_or_default();
        Ok(user.clone())
    }

    /// Changes what the draft names (PATCH) and leaves the rest.
    pub fn change(&mut self, id: u64, draft: Draft) -> Result<User, Refusal> {
        draft.check()?;
        let user = self.by_id.get_mut(&id).ok_or(Refusal::Unknown)?;
        if let Some(name) = draft.name {
            user.name = name;
        }
        if let Some(email) = draft.email {
            user.email = email;
        }
        Ok(user.clone())
    }

    /// Takes the user of that number out.
    pub fn delete(&mut self, id: u64) -> Result<(), Refusal> {
        self.by_id.remove(&id).map(drop).ok_or(Refusal::Unknown)
    }

    fn insert(&mut self, name: String, email: String) -> User {
        self.last += 1;
        let user = User { id: self.last, name, email };
        self.by_id.insert(user.id, user.clone());
        user
    }
}

impl Draft {
    fn check(&self) -> Result<(), Refusal> {
        let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > LONGEST);
        if self.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            Err(Refusal::Invalid("a name is not empty"))
        } else if too_long(&self.name) || too_long(&self.email) {
            Err(Refusal::Invalid("a name or an email has at most 100 characters"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(name: &str) -> Draft {
        Draft { name: Some(name.to_owned()), email: None }
    }

    #[test]
    fn a_deleted_number_is_not_given_again() {
        let mut users = Users::sample();
        users.delete(3).unwrap();
        assert_eq!(users.create(draft("Dave")).unwrap().id, 4);
        assert_eq!(users.delete(3), Err(Refusal::Unknown));
    }

    #[test]
    fn put_empties_what_it_leaves_out_and_patch_keeps_it() {
        let mut users = Users::sample();
        assert_eq!(users.change(1, draft("Alicia")).unwrap().email, "alice@example.org");
        assert_eq!(users.replace(1, draft("Alicia")).unwrap().email, "");
        assert_eq!(users.replace(1, Draft::default()), Err(Refusal::Invalid("a user needs a name")));
        assert_eq!(users.find(1).unwrap().name, "Alicia");
    }

    #[test]
    fn users_beyond_the_bound_are_refused() {
        let mut users = Users::sample();
        while users.list().len() < MOST {
            users.create(draft("x")).unwrap();
        }
        assert_eq!(users.create(draft("x")), Err(Refusal::Full));
    }

    #[test]
    fn long_or_empty_names_are_refused() {
        let mut users = Users::sample();
        assert!(matches!(users.create(draft(&"x".repeat(101))), Err(Refusal::Invalid(_))));
        assert!(matches!(users.change(1, draft(" ")), Err(Refusal::Invalid(_))));
    }
}
