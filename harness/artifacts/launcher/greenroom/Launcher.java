package greenroom;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

import kafka.server.KafkaConfig;
import kafka.server.KafkaRaftServer;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.metadata.MetadataRecordSerde;
import org.apache.kafka.metadata.bootstrap.BootstrapDirectory;
import org.apache.kafka.metadata.bootstrap.BootstrapMetadata;
import org.apache.kafka.server.common.ApiMessageAndVersion;
import org.apache.kafka.server.common.Feature;
import org.apache.kafka.server.common.MetadataVersion;

/**
 * Starts one real Kafka node per properties file, all in this JVM: three files for the colocated layout, one for
 * the separate. The nodes share nothing but the JVM: each has its own id, listeners and data directory, and they
 * elect and replicate over TCP.
 *
 * The life of the JVM hangs on standard input: when it closes, the holder is gone and the JVM halts with code 0, at
 * once, as by SIGKILL, because the orderly shutdown of a combined quorum can hang for minutes (KAFKA-14287). A node
 * that fails ends all of them with code 1: a cluster of two is not what was asked. Lines of the input are commands:
 *
 *   node FILE   starts one more node
 *   rest        shuts all nodes down in order, and says RESTING on standard error when none is left: the JVM is as it
 *               was, but has done once what nodes do, and a checkpoint of it can be taken
 *   exit        ends the JVM by System.exit, which lets it write its AOT cache or class archive; nodes are not shut
 *               down
 */
public final class Launcher {
    private static final String RESTING = "greenroom launcher: at rest";
    private static final Queue<Node> NODES = new ConcurrentLinkedQueue<>();

    private Launcher() {
    }

    public static void main(String[] nodeFiles) {
        if (nodeFiles.length == 0) {
            fail("no node file was given: name one properties file per node", null);
        }
        for (String nodeFile : nodeFiles) {
            start(nodeFile);
        }
        obeyUntilEndOfInput();
    }

    private static void start(String nodeFile) {
        new Thread(() -> run(nodeFile), "node " + nodeFile).start();
    }

    private static void run(String nodeFile) {
        try {
            Node node = new Node();
            NODES.add(node);
            node.run(nodeFile);
            if (node.isToEnd) {
                return;
            }
        } catch (NoClassDefFoundError | IncompatibleClassChangeError cause) {
            fail("Kafka's classes are not those of the 4.3 that the launcher is built for, or are not on the class path ("
                + "in an image of others, `jars` says where they lie): " + cause, null);
        } catch (Throwable cause) {
            fail("the node of " + nodeFile + " failed", cause);
        }
        fail("the node of " + nodeFile + " has stopped by itself", null);
    }

    private static void obeyUntilEndOfInput() {
        try {
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                if (line.startsWith("node ")) {
                    start(line.substring("node ".length()));
                } else if (line.equals("rest")) {
                    rest();
                } else if (line.equals("exit")) {
                    System.exit(0);
                }
            }
        } catch (Throwable closed) {
            // An input that cannot be read is as good as closed.
        }
        Runtime.getRuntime().halt(0);
    }

    private static void rest() throws InterruptedException {
        // All at once: a quorum that loses its nodes one by one elects again for each of them.
        List<Thread> endings = NODES.stream().map(node -> new Thread(node::end)).toList();
        endings.forEach(Thread::start);
        for (Thread ending : endings) {
            ending.join();
        }
        NODES.clear();
        System.gc();
        System.err.println(RESTING);
    }

    private static void fail(String message, Throwable cause) {
        System.err.println("greenroom launcher: " + message);
        if (cause != null) {
            cause.printStackTrace();
        }
        System.err.flush();
        Runtime.getRuntime().halt(1);
    }

    /** What touches Kafka's classes: apart, so that the launcher can say that they are missing or others. */
    private static final class Node {
        private volatile KafkaRaftServer server;
        private volatile boolean isToEnd;

        private void run(String nodeFile) throws IOException {
            KafkaConfig config = KafkaConfig.fromProps(Utils.loadProps(nodeFile), false);
            writeFeatureLevels(config.metadataLogDir());
            server = new KafkaRaftServer(config, Time.SYSTEM);
            server.startup();
            server.awaitShutdown();
        }

        private void end() {
            isToEnd = true;
            server.shutdown();
            server.awaitShutdown();
        }

        /**
         * Writes what "kafka-storage format" writes beside meta.properties: the levels of all features of this Kafka
         * version. Without the file a node runs with metadata.version alone, that is, without the new group protocol and
         * with transactions of the first version. A node that is started again keeps its file.
         *
         * Kafka's own writer of this file takes 8 MiB of heap for its 400 bytes, and does so in each node.
         */
        private static void writeFeatureLevels(String directory) throws IOException {
            Path file = Path.of(directory, BootstrapDirectory.BINARY_BOOTSTRAP_FILENAME);
            if (Files.exists(file)) {
                return;
            }
            MetadataVersion version = MetadataVersion.latestProduction();
            Map<String, Short> levels = new HashMap<>();
            for (Feature feature : Feature.PRODUCTION_FEATURES) {
                levels.put(feature.featureName(), feature.defaultLevel(version));
            }
            SimpleRecord[] records = BootstrapMetadata.fromVersions(version, levels, "greenroom").records().stream()
                .map(record -> new SimpleRecord(Time.SYSTEM.milliseconds(), null, serialized(record)))
                .toArray(SimpleRecord[]::new);
            ByteBuffer batch = MemoryRecords.withRecords(Compression.NONE, records).buffer();
            Files.write(file, Utils.toArray(batch));
        }

        private static byte[] serialized(ApiMessageAndVersion record) {
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer buffer = ByteBuffer.allocate(MetadataRecordSerde.INSTANCE.recordSize(record, cache));
            MetadataRecordSerde.INSTANCE.write(record, cache, new ByteBufferAccessor(buffer));
            return buffer.array();
        }
    }
}
