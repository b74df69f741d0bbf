use super::*;
use crate::config::Needs;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const NO_STORES: Stores<'_> = Stores { encrypted: &[], plain: &[] };

#[test]
fn a_drop_in_says_all_that_a_config_needs() {
    let store = tempfile::tempdir().unwrap();
    for name in ["secret", "sealed"] {
        fs::write(store.path().join(name), "").unwrap();
    }
    let sealed = store.path().join("encrypted");
    fs::create_dir(&sealed).unwrap();
    fs::write(sealed.join("sealed"), "").unwrap();
    let place = store.path().to_str().unwrap();
    let needs = Needs {
        watched: vec!["/data/100% \"a\\b\"/网站".into(), "/data/new\nline".into()],
        remotes: vec!["/mnt/my-disk/.copy".into()],
        state: Some("/var/tmp/state".into()),
        credentials: vec!["later".into(), "sealed".into(), "secret".into()],
        files: Vec::new(),
    };
    let expected = format!(
        "# Made by sersync-generator of /etc/sersync/www.example.org.xml.\n\n\
         [Unit]\n\
         RequiresMountsFor=\"/data/100%% \\\"a\\\\b\\\"/网站\"\n\
         Wants=mnt.mount\nAfter=mnt.mount\n\
         Wants=mnt-my\\x2ddisk.mount\nAfter=mnt-my\\x2ddisk.mount\n\
         Wants=mnt-my\\x2ddisk-.copy.mount\nAfter=mnt-my\\x2ddisk-.copy.mount\n\n\
         [Service]\n\
         BusName=org.sersync.Agent1.www_2eexample_2eorg\n\
         ReadWritePaths=\"-/mnt/my-disk/.copy\"\nReadWritePaths=\"-/var/tmp/state\"\n\
         UMask=0022\nRestrictSUIDSGID=no\nPrivateTmp=no\n\
         LoadCredential=later\nLoadCredentialEncrypted=sealed:{place}/encrypted/sealed\nLoadCredential=secret:{place}/secret\n\n"
    );
    let stores = Stores { encrypted: &["/nowhere", sealed.to_str().unwrap()], plain: &["/nowhere", place] };
    assert_eq!(drop_in("www.example.org", &needs, &stores), expected);
    assert_eq!(drop_in("www", &Needs::default(), &NO_STORES), "");
    let with_file = |file: &str| drop_in("www", &Needs { files: vec![file.into()], ..Needs::default() }, &NO_STORES);
    assert!(with_file("/tmp/password").ends_with("[Service]\nPrivateTmp=no\n\n"));
    assert_eq!(with_file("/tmpfs/password"), "");
}

/// The drop-ins below `normal`, by their unit's name.
fn written(normal: &Path) -> BTreeMap<String, String> {
    let units = fs::read_dir(normal).unwrap().map(|unit| unit.unwrap().path());
    let name = |unit: &PathBuf| unit.file_name().unwrap().to_str().unwrap().to_owned();
    units.map(|unit| (name(&unit), fs::read_to_string(unit.join(DROP_IN)).unwrap())).collect()
}

#[test]
fn each_config_has_its_own_and_what_is_none_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let [configs, normal] = ["configs", "normal"].map(|name| place.path().join(name));
    fs::create_dir(&normal).unwrap();
    generate(&configs, &NO_STORES, &normal);
    assert!(written(&normal).is_empty());

    fs::create_dir(&configs).unwrap();
    let config = |watch: &str| format!(r#"<head><sersync><localpath watch="{watch}"/></sersync></head>"#);
    let put = |name: &str, text: &[u8]| fs::write(configs.join(name), text).unwrap();
    put("www.xml", config("/data/www").as_bytes());
    put("elsewhere", config("/data/linked").as_bytes());
    symlink("elsewhere", configs.join("linked.xml")).unwrap();
    // Of a config that is wrong in what it says, systemd learns what can be known.
    put("wrong.xml", config("/data/wrong\"/><localpath watch=\"relative").as_bytes());
    put("broken.xml", b"<head><sersync><localpath watch=\"/data/broken\">");
    put("long.xml", &vec![b' '; 5 << 20]);
    for name in ["www.xml.bak", ".hidden.xml", "two words.xml", "镜像.xml", ".xml", "100%.xml"] {
        put(name, config("/data/no").as_bytes());
    }
    symlink("/proc/self/environ", configs.join("proc.xml")).unwrap();
    symlink("loop.xml", configs.join("loop.xml")).unwrap();
    fs::create_dir(configs.join("directory.xml")).unwrap();
    nix::unistd::mkfifo(&configs.join("pipe.xml"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    generate(&configs, &NO_STORES, &normal);
    let drop_ins = written(&normal);
    let units: Vec<&str> = drop_ins.keys().map(String::as_str).collect();
    assert_eq!(units, ["sersync@linked.service.d", "sersync@wrong.service.d", "sersync@www.service.d"]);
    for (unit, path) in [("www", "/data/www"), ("linked", "/data/linked"), ("wrong", "/data/wrong")] {
        let text = &drop_ins[&format!("sersync@{unit}.service.d")];
        assert!(text.contains(&format!("\nRequiresMountsFor=\"{path}\"\n")), "{text}");
    }
}
