import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.MalformedURLException;
import java.net.URL;
import java.util.Collections;
import java.util.Enumeration;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

/**
 * The system class loader of Beam's job service: loads from the jar that the property hidden.jar names, which is not on the class
 * path.
 *
 * <p>The service sends every jar of its class path to the cluster with every job, where each TaskManager fetches it: 175 MB. A
 * cluster that has Beam's jars in lib/ needs none of that. A scanner of class paths asks a URLClassLoader for its jars; this is none.
 */
public final class HiddenJar extends ClassLoader {
  private final String base;
  private final JarFile archive;

  public HiddenJar(ClassLoader parent) throws IOException {
    super(parent);
    File file = new File(System.getProperty("hidden.jar")).getAbsoluteFile();
    base = "jar:" + file.toURI() + "!/";
    archive = new JarFile(file, false, JarFile.OPEN_READ, Runtime.version());
  }

  @Override
  protected Class<?> findClass(String name) throws ClassNotFoundException {
    JarEntry entry = archive.getJarEntry(name.replace('.', '/') + ".class");
    if (entry == null) {
      throw new ClassNotFoundException(name);
    }
    try (InputStream in = archive.getInputStream(entry)) {
      byte[] code = in.readAllBytes();
      return defineClass(name, code, 0, code.length);
    } catch (IOException e) {
      throw new ClassNotFoundException(name, e);
    }
  }

  @Override
  protected URL findResource(String name) {
    try {
      return archive.getJarEntry(name) == null ? null : new URL(base + name);
    } catch (MalformedURLException e) {
      return null;
    }
  }

  @Override
  protected Enumeration<URL> findResources(String name) {
    URL found = findResource(name);
    return found == null ? Collections.emptyEnumeration() : Collections.enumeration(Collections.singleton(found));
  }
}
