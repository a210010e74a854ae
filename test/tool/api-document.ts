/** The API's document taken apart, and answers held to it. */
import assert from 'node:assert/strict';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { ValidateFunction } from 'ajv';
import ajvFormats from 'ajv-formats';

interface Media {
  readonly schema?: object;
  readonly example?: unknown;
}

interface Described {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly security?: readonly object[];
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly requestBody?: { readonly required: boolean; readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Media>> }>>;
}

interface DocumentText {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

export interface DocumentedOperation extends Described {
  /** GET */
  readonly method: string;
  /** /v1/volumes/{name} */
  readonly path: string;
}

export interface SentEvent {
  readonly event: string;
  readonly data: unknown;
}

const schemaOfEvent: Readonly<Record<string, string>> = {
  gateway: 'Gateway',
  volume: 'Volume',
  'volume-removed': 'VolumeRemoved',
  operation: 'Operation',
  rates: 'Rates',
};

export class ApiDocument {
  readonly operations: readonly DocumentedOperation[];
  readonly #text: DocumentText;
  readonly #ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true });
  readonly #compiled = new Map<object, ValidateFunction>();

  constructor(text: unknown) {
    const document = text as DocumentText;
    this.#text = document;
    ajvFormats.default(this.#ajv);
    // References of the document are to its own components.
    this.#ajv.addSchema({ $id: 'document', $defs: document.components.schemas });
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, described]) => ({ ...described, path, method: method.toUpperCase() })),
    );
  }

  get version(): string {
    return this.#text.openapi;
  }

  operation(operationId: string): DocumentedOperation {
    const found = this.operations.find((candidate) => candidate.operationId === operationId);
    assert.ok(found, `the document has ${operationId}`);
    return found;
  }

  /** Every schema with an example of it, and where. */
  *examples(): Iterable<{ readonly where: string; readonly schema: object; readonly example: unknown }> {
    for (const { operationId, requestBody, responses } of this.operations) {
      const places = [
        ['request', requestBody?.content ?? {}] as const,
        ...Object.entries(responses).map(([status, { content = {} }]) => [status, content] as const),
      ];
      for (const [place, content] of places) {
        for (const [type, { schema = {}, example }] of Object.entries(content)) {
          yield { where: `${operationId} ${place} ${type}`, schema, example };
        }
      }
    }
  }

  checkAnswer(operationId: string, answer: { status: number; type: string; body: string }): void {
    const { responses } = this.operation(operationId);
    const where = `${operationId} ${answer.status}`;
    const content = (responses[answer.status] ?? responses['default'])?.content ?? {};
    const type = answer.type.split(';')[0] ?? '';
    const media = content[type];
    assert.ok(media?.schema, `${where}: ${type} is none of ${Object.keys(content).join(' ')}`);
    this.check(where, media.schema, /json/.test(type) ? JSON.parse(answer.body) : answer.body);
  }

  checkEvent({ event, data }: SentEvent): void {
    const schema = this.#text.components.schemas[schemaOfEvent[event] ?? ''];
    assert.ok(schema, `the document has the event ${event}`);
    this.check(event, schema, data);
  }

  check(where: string, schema: object, value: unknown): void {
    const validate = this.#validator(schema);
    assert.ok(validate(value), `${where}: ${this.#ajv.errorsText(validate.errors)} in ${JSON.stringify(value)}`);
  }

  accepts(schema: object, value: unknown): boolean {
    return this.#validator(schema)(value);
  }

  #validator(schema: object): ValidateFunction {
    const found = this.#compiled.get(schema);
    if (found !== undefined) return found;
    const text = JSON.stringify(schema).replaceAll('"#/components/schemas/', '"document#/$defs/');
    const made = this.#ajv.compile(JSON.parse(text) as object);
    this.#compiled.set(schema, made);
    return made;
  }
}

/** Server-sent events of a response as they come (HTML standard, section 9.2.6, as far as it is used). */
export async function* readEvents(response: Response): AsyncGenerator<SentEvent> {
  assert.ok(response.body);
  let text = '';
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      const match = /^event: (\S+)\ndata: (.*)$/.exec(block);
      if (match?.[1] !== undefined) yield { event: match[1], data: JSON.parse(match[2] ?? '') as unknown };
    }
  }
}
