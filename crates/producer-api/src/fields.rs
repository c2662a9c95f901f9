//! The fields of an object, read one by one, each with what is wrong with it.

use queue_core::Millis;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use service::FieldError;

use crate::json::{cut, explain};

/// Reads one field, and notes what is wrong with it.
pub(crate) struct Reader<'a> {
    pub(crate) pointer: &'a str,
    pub(crate) name: &'a str,
    pub(crate) value: &'a RawValue,
    pub(crate) errors: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.read_checked(|_| Ok(()))
    }

    /// A duration from 1 ms to the longest; `range` says so.
    pub(crate) fn read_duration(&mut self, longest: Millis, range: &'static str) -> Option<Millis> {
        self.read_checked(
            |duration: &Millis| if duration.is_zero() || *duration > longest { Err(range) } else { Ok(()) },
        )
    }

    /// An object, which could be read from a list of its members too.
    pub(crate) fn read_object<T: DeserializeOwned>(
        &mut self,
        check: impl Fn(&T) -> Result<(), &'static str>,
    ) -> Option<T> {
        if self.value.get().starts_with('[') {
            self.errors.push(field_error(self.pointer, self.name, "must be an object, not a list".into()));
            return None;
        }
        self.read_checked(check)
    }

    pub(crate) fn read_checked<T: DeserializeOwned>(
        &mut self,
        check: impl Fn(&T) -> Result<(), &'static str>,
    ) -> Option<T> {
        let checked = serde_json::from_str::<T>(self.value.get())
            .map_err(|error| explain(&error))
            .and_then(|value| check(&value).map(|()| value).map_err(str::to_owned));
        checked.map_err(|detail| self.errors.push(field_error(self.pointer, self.name, detail))).ok()
    }
}

/// What is wrong with the field `name` of the object at `pointer`.
pub(crate) fn field_error(pointer: &str, name: &str, detail: String) -> FieldError {
    let name = cut(name).replace('~', "~0").replace('/', "~1");
    FieldError { pointer: format!("{pointer}/{name}"), detail }
}
