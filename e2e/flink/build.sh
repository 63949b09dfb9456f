#!/bin/bash
# build.sh [DIR]: a standalone Flink 1.19.3 and Beam's job service for it, from Maven and Python packages alone, every file
# held to checksums.txt. About 650 MB in DIR (default .flink). Needs JDK 11 or 17, mvn, python3 with venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$PWD/.flink}
flink=1.19.3
mkdir -p "$dir"/{jars,packages,logs}
cd "$dir"

echo "job service: jars"
cp "$here/pom.xml" pom.xml
mvn -B -q dependency:copy-dependencies -DoutputDirectory="$dir/jars" -DincludeScope=runtime

echo "Flink $flink: packages"
[ -x venv/bin/pip ] || python3 -m venv venv
# The libraries are one source package, the scripts and the default configuration come in the wheel.
venv/bin/pip -q download --no-deps -d packages "apache-flink-libraries==$flink"
venv/bin/pip -q download --no-deps -d packages --only-binary=:all: --python-version 311 --platform manylinux2014_x86_64 "apache-flink==$flink"

sha256sum --quiet --strict -c "$here/checksums.txt" || { echo "build.sh: a package is not the one that was tested" >&2; exit 1; }
extra=$(comm -13 <(awk '{print $2}' "$here/checksums.txt" | sort) <(ls jars/*.jar packages/* | sort))
[ -z "$extra" ] || { echo "build.sh: not in checksums.txt: $extra" >&2; exit 1; }

echo "assembling"
python3 "$here/fatjar.py" jars job-service.jar org.apache.beam.runners.flink.FlinkJobServerDriver
javac -d launcher "$here/HiddenJar.java"
jar --create --file launcher.jar -C launcher .
rm -rf home unpacked
mkdir -p home unpacked
tar xzf packages/apache-flink-libraries-$flink.tar.gz -C unpacked --strip-components=1
python3 -c '
import glob, zipfile
wheel = zipfile.ZipFile(glob.glob("packages/apache_flink-*.whl")[0])
for name in wheel.namelist():
    if name.startswith(("pyflink/bin/", "pyflink/conf/")):
        wheel.extract(name, "unpacked")'
cp -r unpacked/pyflink/{bin,conf} unpacked/deps/{lib,plugins} home/
cp unpacked/deps/bin/bash-java-utils.jar home/bin/
rm -rf unpacked home/lib/flink-{table,cep,scala}*
chmod +x home/bin/*
mkdir -p home/{log,pid}
# Beam on the cluster's own class path: loaded once, not anew for every job (25-50 s each).
for jar in jars/*.jar; do
  case $(basename "$jar") in flink-*|slf4j-*|log4j*|logback*|chill*|scala*) ;; *) cp "$jar" "home/lib/beam--$(basename "$jar")" ;; esac
done
cp "$here/flink-conf.yaml" home/conf/config.yaml
echo "ready: $dir"
