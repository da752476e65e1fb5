//! Release trees of any size, shaped like a production `node_modules`: many small files, five levels deep.

use std::path::Path;

/// Files of one package, spread over its directories.
const FILES_PER_PACKAGE: usize = 60;
/// Directories of one package.
const PLACES: [&str; 6] = ["", "dist", "dist/esm", "dist/esm/internal/operators", "lib", "types"];
/// Bytes of a file: as in `node_modules`, most are small. The mean is about 2.5 KiB.
const SIZES: [usize; 8] = [120, 300, 600, 900, 1_500, 2_500, 4_000, 10_000];
const LINE: usize = 60;

/// Writes `files` files below `dir`. The same seed writes the same bytes; another seed shares no content.
pub fn write(dir: &Path, files: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..files {
        let (package, in_package) = (number / FILES_PER_PACKAGE, number % FILES_PER_PACKAGE);
        let place = PLACES[in_package % PLACES.len()];
        let at = dir.join(format!("node_modules/package-{package:04}")).join(place);
        std::fs::create_dir_all(&at).unwrap();
        let content = text(&mut random);
        std::fs::write(at.join(format!("module-{in_package:02}.js")), content).unwrap();
    }
}

/// Words and numbers, so that it compresses about as well as source does.
fn text(random: &mut fastrand::Rng) -> String {
    let size = SIZES[random.usize(..SIZES.len())];
    let mut text = String::with_capacity(size + LINE);
    while text.len() < size {
        let (name, value) = (random.u32(..4_096), random.u64(..));
        text.push_str(&format!("exports.name{name} = function (x) {{ return x + {value}; }};\n"));
    }
    text
}
