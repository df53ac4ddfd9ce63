import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

/** Does what `kafka-topics.sh --create` does, which is not among the brokers' jars: BROKER TOPIC PARTITIONS REPLICAS. */
class CreateTopic {
    public static void main(String[] arguments) throws Exception {
        NewTopic topic = new NewTopic(arguments[1], Integer.parseInt(arguments[2]), Short.parseShort(arguments[3]));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            admin.createTopics(List.of(topic)).all().get();
        }
    }
}
