package greenroom;

import java.io.IOException;
import java.io.OutputStream;
import java.lang.invoke.CallSite;
import java.lang.invoke.LambdaMetafactory;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;

import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.Handle;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/**
 * Writes jars again so that a class archive can hold the lambdas of their Scala classes: DIRECTORY JAR...
 *
 * Scala's compiler asks for lambdas that can be serialized, and that have a second method with their exact types for
 * structural types. The JDK keeps neither kind in a class archive, so that each JVM makes the classes of some 800
 * lambdas anew while three brokers start. Here such a lambda is asked for as javac asks for a plain one. It runs the
 * same method; what it loses, being serialized and called by reflection on its exact types, no broker uses. Where a
 * second method has other types than these, an interface needs it, and the lambda stays as it is.
 *
 * A jar in which nothing changes is not written.
 */
public final class Relink {
    private static final String FACTORY = Type.getInternalName(LambdaMetafactory.class);
    private static final Handle PLAIN = new Handle(Opcodes.H_INVOKESTATIC, FACTORY, "metafactory",
        MethodType.methodType(CallSite.class, MethodHandles.Lookup.class, String.class, MethodType.class,
            MethodType.class, MethodHandle.class, MethodType.class).toMethodDescriptorString(), false);
    private static final String ALTERNATIVE = "altMetafactory";

    private Relink() {
    }

    public static void main(String[] arguments) throws IOException {
        Path directory = Path.of(arguments[0]);
        for (String jar : List.of(arguments).subList(1, arguments.length)) {
            relink(Path.of(jar), directory);
        }
    }

    private static void relink(Path jar, Path directory) throws IOException {
        int changed = 0;
        Map<String, byte[]> entries = new LinkedHashMap<>();
        try (ZipFile file = new ZipFile(jar.toFile())) {
            for (ZipEntry entry : (Iterable<ZipEntry>) file.stream().map(ZipEntry.class::cast)::iterator) {
                byte[] bytes = file.getInputStream(entry).readAllBytes();
                byte[] relinked = entry.getName().endsWith(".class") && isNamedIn(bytes) ? relink(bytes) : bytes;
                changed += relinked == bytes ? 0 : 1;
                entries.put(entry.getName(), relinked);
            }
        }
        if (changed == 0) {
            return;
        }
        System.out.println(jar.getFileName() + ": " + changed + " classes");
        try (OutputStream written = Files.newOutputStream(directory.resolve(jar.getFileName()));
                ZipOutputStream zip = new ZipOutputStream(written)) {
            for (Map.Entry<String, byte[]> entry : entries.entrySet()) {
                ZipEntry next = new ZipEntry(entry.getKey());
                // Equal jars make equal jars.
                next.setTime(0);
                zip.putNextEntry(next);
                zip.write(entry.getValue());
            }
        }
    }

    /** Whether the factory is named at all; most classes need not be read. */
    private static boolean isNamedIn(byte[] bytes) {
        return new String(bytes, StandardCharsets.ISO_8859_1).contains(ALTERNATIVE);
    }

    private static byte[] relink(byte[] bytes) {
        ClassReader reader = new ClassReader(bytes);
        ClassWriter writer = new ClassWriter(reader, 0);
        Sites sites = new Sites(writer);
        reader.accept(sites, 0);
        return sites.changed == 0 ? bytes : writer.toByteArray();
    }

    /** The call sites of one class. */
    private static final class Sites extends ClassVisitor {
        private int changed;

        Sites(ClassWriter writer) {
            super(Opcodes.ASM9, writer);
        }

        @Override
        public MethodVisitor visitMethod(int access, String name, String types, String generic, String[] thrown) {
            MethodVisitor method = super.visitMethod(access, name, types, generic, thrown);
            return new MethodVisitor(Opcodes.ASM9, method) {
                @Override
                public void visitInvokeDynamicInsn(String called, String site, Handle bootstrap, Object... arguments) {
                    if (isPlainButForScala(bootstrap, arguments)) {
                        changed++;
                        super.visitInvokeDynamicInsn(called, site, PLAIN, arguments[0], arguments[1], arguments[2]);
                    } else {
                        super.visitInvokeDynamicInsn(called, site, bootstrap, arguments);
                    }
                }
            };
        }

        /** Arguments: erased type, method, exact type, flags and, where flags say so, number and types of bridges. */
        private static boolean isPlainButForScala(Handle bootstrap, Object[] arguments) {
            boolean alternative = bootstrap.getOwner().equals(FACTORY) && bootstrap.getName().equals(ALTERNATIVE);
            if (!alternative) {
                return false;
            }
            int flags = (Integer) arguments[3];
            boolean marked = (flags & LambdaMetafactory.FLAG_MARKERS) != 0;
            int bridges = (flags & LambdaMetafactory.FLAG_BRIDGES) != 0 ? 5 : arguments.length;
            Object exact = arguments[2];
            return !marked && Arrays.stream(arguments, bridges, arguments.length).allMatch(exact::equals);
        }
    }
}
