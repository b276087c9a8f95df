"""What pyproject.toml cannot say: the two extensions are built by CMake, and the wheel carries the C++ of libsedge-run
and uPlot from npm."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def tool(name: str, package_dir: str) -> str:
    """The program inside the PyPI package where that is installed, else the one on PATH."""
    try:
        folder = getattr(__import__(name), package_dir)
    except (ImportError, AttributeError):
        folder = None
    path = shutil.which(name, path=folder) or shutil.which(name)
    if path is None:
        raise SystemExit(f"{name} was not found: install it, or build with pip's build isolation")
    return path


class CMakeBuild(build_ext):
    """Configures once, then builds one CMake target per extension, straight to where setuptools looks for
    it."""

    def run(self) -> None:
        build = Path(self.build_temp).resolve() / "cmake"
        module = Path(self.build_lib, self.get_ext_filename(self.extensions[0].name)).resolve()
        self.cmake = tool("cmake", "CMAKE_BIN_DIR")
        self.cmake_build = build
        configure = [
            *(self.cmake, "--fresh", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={tool('ninja', 'BIN_DIR')}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DSEDGE_MODULE_DIR={module.parent}",
            f"-DSEDGE_MODULE_SUFFIX=.{module.name.partition('.')[2]}",
            "-DSEDGE_TESTS=OFF",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        target = ext.name.rpartition(".")[2]
        subprocess.run([self.cmake, "--build", str(self.cmake_build), "--target", target], check=True)


def fetch_uplot() -> None:
    """uPlot, as package-lock.json pins it, from npm into the dashboard's folder; without npm the build goes on."""
    room = ROOT / "edge" / "libsedge" / "dashboard"
    lock, vendor = room / "package-lock.json", room / "static" / "vendor"
    stamp = vendor / "package-lock.json"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return
    npm = shutil.which("npm")
    if npm is None:
        print("libsedge: npm was not found, so `libsedge run --dashboard` will not work", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="libsedge-npm-") as folder:
        for file in (lock, room / "package.json"):
            shutil.copy(file, folder)
        quiet = [
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            f"--cache={folder}/cache",
        ]
        if subprocess.run([npm, "ci", *quiet], cwd=folder).returncode != 0:
            print("libsedge: npm ci failed, so `libsedge run --dashboard` will not work", file=sys.stderr)
            return
        package = Path(folder, "node_modules", "uplot")
        vendor.mkdir(exist_ok=True)
        for name in ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"):
            shutil.copyfile(package / name, vendor / Path(name).name)
        shutil.copyfile(lock, stamp)


class PackagesAndRunner(build_py):
    """The packages, and in libsedge_native the hand-written C++ that lies beside it in the source tree."""

    def run(self) -> None:
        fetch_uplot()
        super().run()
        if self.editable_mode:
            return
        for folder in ("src", "runner"):
            target = Path(self.build_lib, "libsedge_native", "native", folder)
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted((ROOT / "native" / folder).glob("*")):
                if file.suffix in (".h", ".cpp"):
                    shutil.copyfile(file, target / file.name)


setup(
    ext_modules=[Extension("libsedge._core", sources=[]), Extension("libsedge._frames", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": PackagesAndRunner},
)
