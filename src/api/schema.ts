/**
 * How a route describes itself. One description is what OpenAPI shows and what the serializer follows; the contract tests
 * hold the examples, the answers and the bodies that are taken to it.
 *
 * A body is described here and checked by its handler, whose refusals say what to write instead; the validator that would
 * come first is therefore told to let everything pass (`described`).
 */
import { errorCodes } from '../base/errors.js';

export type Schema = Readonly<Record<string, unknown>>;

export const number = { type: 'number' } as const;
export const string = { type: 'string' } as const;
export const boolean = { type: 'boolean' } as const;
export const time = { type: 'string', format: 'date-time' } as const;
export const nullable = (type: string) => ({ type: [type, 'null'] });
export const orNull = (schema: Schema) => ({ anyOf: [{ type: 'null' }, schema] });
export const saying = <S extends Schema>(schema: S, description: string) => ({ ...schema, description });
export const listOf = (items: Schema) => ({ type: 'array', items });
/** A schema of `sharedSchemas`. */
export const shared = (id: string) => ({ $ref: `${id}#` });

/** An object that has exactly these, each always there. */
export const group = (properties: Readonly<Record<string, Schema>>) => ({
  type: 'object',
  required: Object.keys(properties),
  additionalProperties: false,
  properties,
});

const problemTypes = [...Object.keys(errorCodes), 'internal'];

export const problemSchema = {
  $id: 'Problem',
  ...group({
    type: saying(string, 'urn:keepgate:error:CODE'),
    title: saying(string, 'What to do about it; constant for a code'),
    status: number,
    detail: saying(string, 'What was wrong, and what would be right'),
    code: { type: 'string', enum: problemTypes },
  }),
};

const json = 'application/json';
const content = (type: string, schema: Schema, example: unknown) => ({ content: { [type]: { schema, example } } });

/** An answer in JSON. */
export const answer = (description: string, schema: Schema, example: unknown) => ({
  description,
  ...content(json, schema, example),
});

export const textAnswer = (description: string, type: string, example: string) => ({
  description,
  ...content(type, string, example),
});

const exampleProblem = {
  type: 'urn:keepgate:error:not-found',
  title: errorCodes['not-found'].action,
  status: 404,
  detail: 'there is no volume "disk1"',
  code: 'not-found',
};

/** What every route may answer with instead. */
export const problemAnswer = {
  description: 'Anything else: what was wrong (RFC 9457)',
  ...content('application/problem+json', shared('Problem'), exampleProblem),
};

export interface Description {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tag: 'health' | 'volumes' | 'snapshots' | 'operations' | 'sessions' | 'bandwidth' | 'events';
  /** It changes something, and wants the token wherever it is asked. */
  readonly changes?: true;
  /** Names in the path and what they are. */
  readonly params?: Readonly<Record<string, string>>;
  readonly querystring?: Schema;
  readonly body?: { readonly schema: Schema; readonly example: unknown; readonly optional?: true };
  readonly responses: Readonly<Record<number, Schema>>;
}

/** The options of a Fastify route that is so described. */
export function described(description: Description) {
  const { tag, changes, params, body, responses, ...rest } = description;
  const named = Object.entries(params ?? {}).map(([name, text]) => [name, { type: 'string', description: text }]);
  const schema = {
    ...rest,
    tags: [tag],
    ...(changes === undefined ? {} : { security: [{ token: [] }] }),
    ...(params === undefined ? {} : { params: { type: 'object', properties: Object.fromEntries(named) as object } }),
    // Here, and only here, @fastify/swagger takes the example from the schema.
    ...(body === undefined
      ? {}
      : { body: { content: { [json]: { schema: { ...body.schema, examples: [body.example] } } } } }),
    ...(body?.optional === undefined ? {} : { 'x-optional-body': true }),
    response: { ...responses, default: problemAnswer },
  };
  return body === undefined ? { schema } : { schema, validatorCompiler: () => () => true };
}

interface DocumentedMethod {
  requestBody?: { required?: boolean };
  'x-optional-body'?: boolean;
}

/** @fastify/swagger calls every body required; what `described` marked is put right here. */
export function withOptionalBodies<D extends object>(document: D): D {
  const { paths = {} } = document as { readonly paths?: Record<string, Record<string, DocumentedMethod>> };
  for (const method of Object.values(paths).flatMap((path) => Object.values(path))) {
    if (method['x-optional-body'] !== true) continue;
    if (method.requestBody !== undefined) method.requestBody.required = false;
    delete method['x-optional-body'];
  }
  return document;
}
