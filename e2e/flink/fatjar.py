"""Joins a directory of jars into one runnable jar: fatjar.py JARS OUT MAIN_CLASS.

Flink loads one jar a job. Service files and reference.conf of all jars are kept, joined; signatures no longer hold and
are dropped. Beam's jars come first, so that their classes win over older copies elsewhere.
"""
import glob
import os
import sys
import zipfile


def joined(name):
    return name.startswith("META-INF/services/") or name.endswith("reference.conf")


def dropped(name):
    signature = name.startswith("META-INF/") and name.rsplit(".", 1)[-1].upper() in ("SF", "RSA", "DSA", "EC")
    return signature or name.endswith("/") or name.endswith("module-info.class")


def main(jars, out, main_class):
    manifest = "META-INF/MANIFEST.MF"
    seen, texts = {manifest}, {}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        target.writestr(manifest, f"Manifest-Version: 1.0\r\nMain-Class: {main_class}\r\nMulti-Release: true\r\n\r\n")
        order = lambda path: ("beam" not in os.path.basename(path), path)
        for path in sorted(glob.glob(os.path.join(jars, "*.jar")), key=order):
            with zipfile.ZipFile(path) as jar:
                for name in jar.namelist():
                    if joined(name):
                        texts.setdefault(name, []).append(jar.read(name).decode())
                    elif not dropped(name) and name not in seen:
                        seen.add(name)
                        target.writestr(name, jar.read(name))
        for name, parts in texts.items():
            target.writestr(name, "\n".join(parts) + "\n")


main(*sys.argv[1:])
