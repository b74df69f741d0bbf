//! Which language people are spoken to in: English, in which the program is written, or what the catalogue in `po/` has
//! for it. The environment decides, as for every other command.
//!
//! What programs read is never translated: JSON, names on the bus, exit statuses; nor is the journal, which has a
//! catalogue of its own.

pub mod help;
pub mod mistyped;

/// Marks a text in a table that is translated where it is shown, `tr!(reason)`, for the test that reads the source.
macro_rules! text {
    ($text:literal) => {
        $text
    };
}
pub(crate) use text;

use polib::catalog::Catalog;
use std::borrow::Cow;
use tr::Translator;

/// What translators write. gettext's format, read when it is needed and not before.
const CHINESE: &[u8] = include_bytes!("../../po/zh_CN.po");

/// A language that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The source's own.
    English,
    /// Simplified Chinese, for Chinese of any land: its readers read it with less trouble than English.
    Chinese,
}

impl Language {
    /// What the environment asks for.
    pub fn of_environment() -> Self {
        Self::asked_for(|name| std::env::var(name).ok())
    }

    /// locale(7): the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set names the locale. Unless that is the C
    /// locale, `LANGUAGE` may name languages to prefer, as for gettext.
    fn asked_for(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(locale) = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set) else { return Self::English };
        let (name, charset) = locale.split_once('.').unwrap_or((&locale, "UTF-8"));
        let charset = charset.split('@').next().unwrap_or_default().to_ascii_lowercase();
        // We write UTF-8: on a terminal that reads GB18030 English is the better answer.
        if matches!(name, "C" | "POSIX") || !matches!(charset.as_str(), "utf-8" | "utf8") {
            return Self::English;
        }
        let preferred = set("LANGUAGE").and_then(|list| list.split(':').find_map(Self::of_name));
        preferred.or_else(|| Self::of_name(name)).unwrap_or(Self::English)
    }

    /// `zh_CN`, `zh-Hans`, `en_GB@euro`; `None` for what we do not speak.
    fn of_name(name: &str) -> Option<Self> {
        match name.split(['_', '-', '.', '@']).next() {
            Some("zh") => Some(Self::Chinese),
            Some("en") => Some(Self::English),
            _ => None,
        }
    }

    /// The translations; none for English.
    fn catalogue(self) -> Option<Catalogue> {
        match self {
            Self::English => None,
            // A test reads it; should it be unreadable all the same, English is left.
            Self::Chinese => polib::po_file::parse_from_reader(CHINESE).ok().map(Catalogue),
        }
    }

    /// From now on `tr!` speaks this language, in the whole process.
    pub fn speak(self) {
        if let Some(catalogue) = self.catalogue() {
            tr::set_translator!(catalogue);
        }
    }
}

/// The translations of one language whose words have one form for every number, as Chinese has.
struct Catalogue(Catalog);

impl Catalogue {
    fn find<'c>(&'c self, text: &str, plural: Option<&str>) -> Option<&'c str> {
        let message = self.0.find_message(None, text, plural)?;
        let translation = match plural {
            None => message.msgstr().ok()?,
            Some(_) => message.msgstr_plural().ok()?.first()?.as_str(),
        };
        Some(translation).filter(|translation| !translation.is_empty())
    }
}

impl Translator for Catalogue {
    fn translate<'a>(&'a self, text: &'a str, _: Option<&'a str>) -> Cow<'a, str> {
        self.find(text, None).unwrap_or(text).into()
    }

    fn ntranslate<'a>(&'a self, number: u64, one: &'a str, many: &'a str, _: Option<&'a str>) -> Cow<'a, str> {
        let source = if number == 1 { one } else { many };
        self.find(one, Some(many)).unwrap_or(source).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Language {
        Language::asked_for(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_catalogue_can_be_read() {
        let catalogue = Language::Chinese.catalogue().unwrap();
        assert_eq!(catalogue.translate("The instance", None), "实例名");
        assert_eq!(catalogue.translate("not in it", None), "not in it");
        // One form for every number.
        for number in [0, 1, 2] {
            assert_eq!(catalogue.ntranslate(number, "{paths} path", "{paths} paths", None), "{paths} 个路径");
        }
    }

    #[test]
    fn the_environment_decides() {
        for chinese in [
            &[("LANG", "zh_CN.UTF-8")][..],
            &[("LANG", "zh_CN.utf8@pinyin")],
            &[("LANG", "zh_TW.UTF-8")],
            &[("LANG", "zh")],
            &[("LC_MESSAGES", "zh_SG.UTF-8"), ("LANG", "de_DE.UTF-8")],
            &[("LC_ALL", ""), ("LANG", "zh_CN.UTF-8")],
            &[("LANG", "en_US.UTF-8"), ("LANGUAGE", "fr:zh_CN:en")],
        ] {
            assert_eq!(asked(chinese), Language::Chinese, "{chinese:?}");
        }
        for english in [
            &[][..],
            &[("LANG", "C.UTF-8"), ("LANGUAGE", "zh_CN")],
            &[("LC_ALL", "C"), ("LANG", "zh_CN.UTF-8")],
            &[("LC_MESSAGES", "POSIX"), ("LANG", "zh_CN.UTF-8")],
            &[("LANG", "zh_CN.GB18030")],
            &[("LANG", "de_DE.UTF-8")],
            &[("LANG", "zh_CN.UTF-8"), ("LANGUAGE", "en_US:zh")],
        ] {
            assert_eq!(asked(english), Language::English, "{english:?}");
        }
    }
}
