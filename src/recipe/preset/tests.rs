use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::recipe::{LayerKind, Recipe};
use crate::spec::{Command, ManagerKind, Millis, ReleaseSpec, StepKind};

/// A directory with these files; a name that ends in `/` is a directory.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    dir
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("landfall.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn found(files: &[(&str, &str)]) -> (Preset, Recipe, ReleaseSpec) {
    let dir = tree(files);
    let (preset, facts) = detect(dir.path()).unwrap();
    let recipe = recipe(&render(preset, &facts));
    let spec = recipe.release_spec("1".parse().unwrap());
    (preset, recipe, spec)
}

#[test]
fn every_preset_is_a_recipe_even_of_an_empty_directory() {
    let dir = tree(&[]);
    let facts = Facts::of(dir.path()).unwrap();
    for (name, preset) in PRESETS {
        assert_eq!(name.parse::<Preset>().unwrap(), preset);
        let text = render(preset, &facts);
        recipe(&text);
        assert!(!text.contains("{{"), "{name}: a placeholder is left\n{text}");
    }
    assert!("rails".parse::<Preset>().is_err());
}

#[test]
fn a_next_app_keeps_what_its_shell_script_did() {
    let ecosystem = "module.exports = { apps: [{ name: 'web', script: 'server.js', instances: 2,\n exec_mode: 'cluster',\n max_memory_restart: '512M', kill_timeout: 8000, env: { PORT: 4100 } }] }";
    let (preset, recipe, spec) = found(&[
        ("package.json", r#"{"name":"@acme/Web","version":"1.0.0","dependencies":{"next":"16"}}"#),
        ("pnpm-lock.yaml", ""),
        ("ecosystem.config.cjs", ecosystem),
        ("public/", ""),
        (".env.production", ""),
        (".env.production.local", ""),
        (".env.example", ""),
    ]);
    assert_eq!(preset, Preset::Next);
    assert_eq!(recipe.app.as_str(), "web");
    let build = recipe.build.as_ref().unwrap().command_for(None).cloned();
    assert_eq!(build, Some(Command::Run(["pnpm", "run", "build"].map(String::from).into())));
    assert_eq!(recipe.layers.iter().map(|layer| layer.files.len()).collect::<Vec<_>>(), [1, 1, 2, 0]);
    assert_eq!(spec.env.file_name(&"prod".parse().unwrap()), "production");
    assert_eq!(spec.env.environments.len(), 1);
    assert!(!spec.env.local_optional, "there is a local layer, so hosts need it");
    assert_eq!(spec.env.set["PORT"], "4100");
    let start = &spec.start[0];
    assert_eq!((start.manager, start.instances, start.memory_max), (ManagerKind::Pm2, 2, Some(512 << 20)));
    assert_eq!((start.stop.signal.as_str(), start.stop.grace), ("SIGINT", Millis(8_000)));
    assert_eq!(spec.health[0].body_contains.as_deref(), Some(r#""status":"ok""#));
    assert_eq!((spec.health[0].attempts, spec.health[0].interval), (30, Millis(2_000)));
    assert!(spec.preflight[0].enabled, "a reload into a dead release would leave no worker");
    assert_eq!(spec.retain, Some(5));
}

#[test]
fn a_nest_app_with_prisma_is_light_and_migrates_before_the_switch() {
    let (preset, recipe, spec) = found(&[
        (
            "package.json",
            r#"{"name":"shop","version":"2.0.0","scripts":{"build":"nx build backend"},"dependencies":{"@nestjs/core":"12"},"devDependencies":{"prisma":"6"}}"#,
        ),
        ("package.production.json", "{}"),
        ("pnpm-lock.yaml", ""),
        (
            "ecosystem.config.cjs",
            "module.exports = {apps: [{script: './dist/backend/main.js', instances: 'max'}]}",
        ),
        ("dist/backend/main.js", ""),
        ("prisma/schema/", ""),
        ("prisma/schema/migrations/", ""),
        (".env.dev", ""),
        (".env.staging", ""),
        (".env.prod", ""),
    ]);
    assert_eq!(preset, Preset::NestPrisma);
    let names: Vec<&str> = spec.env.environments.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["dev", "prod", "staging"]);
    let flag = |environment: &str| match recipe
        .build
        .as_ref()
        .unwrap()
        .command_for(Some(&environment.parse().unwrap()))
    {
        Some(Command::Run(arguments)) => arguments.last().cloned().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (flag("dev"), flag("staging"), flag("prod")),
        ("--dev".into(), "--prod".into(), "--prod".into())
    );
    let manifest = &recipe.layers[2].files;
    assert_eq!(
        (manifest[0].from.to_str(), manifest[0].to.as_str()),
        (Some("package.production.json"), "package.json")
    );
    let steps: Vec<(&str, StepKind)> =
        spec.steps.iter().map(|step| (step.name.as_str(), step.kind)).collect();
    assert_eq!(
        steps,
        [("install", StepKind::Prepare), ("generate", StepKind::Prepare), ("migrate", StepKind::Migrate)]
    );
    assert_eq!(recipe.installs_dependencies().map(|name| name.as_str()), Some("install"));
    let missing = recipe.release_of("1".parse().unwrap(), &[]).unwrap_err();
    assert_eq!((missing.step.as_str(), missing.dir.as_str()), ("migrate", "prisma/schema/migrations"));
    assert!(
        matches!(&spec.steps[0].command, Command::Run(a) if a.ends_with(&["--package-import-method".into(), "copy".into()]))
    );
    // The production manifest asks for less than the lockfile has, so pnpm writes the lockfile anew.
    assert!(
        matches!(&spec.steps[0].command, Command::Run(a) if a.contains(&"--prefer-frozen-lockfile".into()))
    );
    assert_eq!(spec.steps[0].writes.iter().map(String::as_str).collect::<Vec<_>>(), ["pnpm-lock.yaml"]);
    assert!(
        matches!(&spec.steps[2].check, Some(Command::Run(a)) if a.ends_with(&["status".into(), "--schema=prisma/schema".into()]))
    );
    assert!(matches!(&spec.start[0].command, Command::Run(a) if a[1] == "dist/backend/main.js"));
    assert!(spec.env.expand);
    assert!(!spec.env.local_optional, "a base layer alone is one of the traps this preset closes");
}

#[test]
fn a_lockfile_that_fits_the_production_manifest_is_frozen_and_output_is_known_before_the_first_build() {
    let package = r#"{"name":"shop","version":"2.0.0","scripts":{"build":"nest build"},"dependencies":{"@nestjs/core":"12","prisma":"6"},"devDependencies":{"typescript":"7"}}"#;
    let (preset, recipe, spec) = found(&[
        ("package.json", package),
        ("package.production.json", &package.replace(r#""scripts":{"build":"nest build"},"#, "")),
        ("pnpm-lock.yaml", ""),
        ("ecosystem.config.cjs", "module.exports = {apps: [{script: './dist/backend/main.js'}]}"),
    ]);
    assert_eq!(preset, Preset::NestPrisma);
    assert!(matches!(&spec.steps[0].command, Command::Run(a) if a.contains(&"--frozen-lockfile".into())));
    assert!(spec.steps[0].writes.is_empty());
    assert_eq!(recipe.layers[0].files[0].from.to_str(), Some("dist/backend"));
}

#[test]
fn a_koa_app_keeps_its_client_part_from_its_servers() {
    let (preset, recipe, spec) = found(&[
        (
            "package.json",
            r#"{"name":"shop","version":"1.0.0","scripts":{"start":"pm2 start app.js -i 2","stop":"pm2 stop app","build":"webpack"},"dependencies":{"koa":"3"}}"#,
        ),
        ("package-lock.json", ""),
        ("app.js", ""),
        ("routes/", ""),
        ("public/", ""),
        (".env.stable", ""),
        (".env.sit", ""),
        (".env.pre", ""),
        (".env.prod", ""),
    ]);
    assert_eq!(preset, Preset::Koa);
    let roles = |name: &str| {
        let layer = recipe.layers.iter().find(|layer| layer.name.as_str() == name).unwrap();
        layer.roles.iter().map(|role| role.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (roles("deps"), roles("server"), roles("static")),
        (vec!["server".into()], vec!["server".into()], vec!["static".into()])
    );
    assert_eq!(spec.env.set["SERVER_ENV"], "${LANDFALL_ENV}");
    assert_eq!(spec.env.environments.len(), 4);
    assert!(spec.env.local_optional);
    assert_eq!(roles("env"), vec!["server".to_owned()], "a static host needs no secret");
    assert_eq!(spec.paths.keep, ["public"]);
    assert!(matches!(&spec.start[0].command, Command::Run(a) if a[..] == ["node", "app.js"]));
    assert_eq!(spec.start[0].stop.command, None);
    assert!(spec.start[0].roles[0].as_str() == "server");
}

#[test]
fn npm_scripts_are_kept_where_start_stays_in_the_foreground() {
    let koa = |start: &str| {
        let package = serde_json::json!({
            "name": "shop", "version": "1.0.0", "dependencies": {"koa": "3"},
            "scripts": {"start": start, "stop": "node stop.js"},
        });
        let (_, _, spec) =
            found(&[("package.json", &package.to_string()), ("app.js", ""), ("yarn.lock", "")]);
        let start = spec.start.into_iter().next().unwrap();
        (start.command, start.stop.command)
    };
    let run = |words: &[&str]| Command::Run(words.iter().map(|word| (*word).to_owned()).collect());
    let scripts = (run(&["yarn", "run", "start"]), Some(run(&["yarn", "run", "stop"])));
    assert_eq!(koa("node app.js"), scripts);
    assert_eq!(koa("NODE_OPTIONS=--enable-source-maps node ./app.js"), scripts);
    for returns in [
        "pm2 start app.js",
        "nohup node app.js &",
        "egg-scripts start --daemon app.js",
        "forever start app.js",
    ] {
        assert_eq!(koa(returns), (run(&["node", "app.js"]), None), "{returns}");
    }
}

#[test]
fn other_directories_get_the_preset_that_fits_them() {
    let preset = |files: &[(&str, &str)]| found(files).0;
    assert_eq!(preset(&[("package.json", r#"{"main":"x.js"}"#), ("x.js", "")]), Preset::Node);
    assert_eq!(preset(&[("Cargo.toml", "[package]\nname = \"srv\"\nversion = \"1.0.0\"")]), Preset::Binary);
    assert_eq!(preset(&[("go.mod", "")]), Preset::Binary);
    assert_eq!(preset(&[("dist/index.html", "")]), Preset::StaticSite);
    assert_eq!(preset(&[("index.html", "")]), Preset::StaticSite);
    let (_, recipe, spec) = found(&[("dist/index.html", "")]);
    assert!(spec.start.is_empty() && spec.health.is_empty());
    assert!(recipe.layers.iter().all(|layer| layer.kind == LayerKind::Files));
}

#[test]
fn a_pm2_configuration_is_read_as_text_and_never_run() {
    let hints = Pm2Hints::of(
        "const n = require('os').cpus().length\nmodule.exports = { apps: [{ 'name': \"api\", instances: n,\n wait_ready: true, listen_timeout: 8000, max_memory_restart: '1G', env: { SUPPORT: 1, PORT: '80' } }] }",
    );
    assert_eq!(hints.name.as_deref(), Some("api"));
    assert_eq!((hints.instances, hints.port, hints.memory_max), (None, Some(80), Some(1 << 30)));
    assert!(hints.wait_ready && !hints.cluster);
    assert_eq!(hints.listen_timeout_ms, Some(8_000));
    assert_eq!(Pm2Hints::of(""), Pm2Hints::default());
}

#[test]
fn names_that_would_break_the_recipe_are_made_fit() {
    for (own, app) in [("@acme/Web.App", "web-app"), ("\\\"]\\nx = 1", "x---1"), ("日本", "app")] {
        let (_, recipe, _) = found(&[("package.json", &format!("{{\"name\":\"{own}\"}}"))]);
        assert_eq!(recipe.app.as_str(), app);
    }
}

#[test]
fn a_manifest_that_cannot_be_read_is_named() {
    let dir = tree(&[("package.json", "{")]);
    assert!(
        matches!(detect(dir.path()), Err(PresetError::Malformed { path, .. }) if path.ends_with("package.json"))
    );
}
